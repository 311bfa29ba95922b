"use strict";
// Tables sort by a click on a column's name: numbers by their value, words by the alphabet, empty cells always last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.classList.contains("number")) return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    if (original.length && original[0].cells[column].classList.contains("number")) head.classList.add("right");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = original.map((row) => [value(row, column), row]);
      rows.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        return descending ? -order : order;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}
// A slider shows one picture of several; without a script it is the middle one.
for (const figure of document.querySelectorAll("figure.slider")) {
  const pictures = [...figure.querySelectorAll("img")];
  const output = figure.querySelector("output");
  figure.querySelector("input").addEventListener("input", (event) => {
    pictures.forEach((picture, k) => { picture.hidden = k !== Number(event.target.value); });
    output.textContent = pictures[Number(event.target.value)].dataset.place;
  });
}
