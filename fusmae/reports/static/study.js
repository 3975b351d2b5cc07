"use strict";

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
}

function compareValues(one, other) {
  const bothNumbers = typeof one === "number" && typeof other === "number";
  return bothNumbers ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
}

function sortBy(head, table) {
  const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const column = Number(head.dataset.column);
  const isEmpty = (row) => valueOf(row, column) === "–";
  const rows = Array.from(table.tBodies[0].rows).sort((one, other) => {
    // What was not measured stands last whichever way.
    if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other);
    const order = compareValues(valueOf(one, column), valueOf(other, column));
    return direction === "ascending" ? order : -order;
  });
  table.querySelectorAll("th[aria-sort]").forEach((sorted) => sorted.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", direction);
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.querySelectorAll("th[data-column]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(head, table));
    head.append(button);
  }
}

// Linear between the nearest two, as numpy's.
function quantile(sorted, share) {
  const position = (sorted.length - 1) * share;
  const below = Math.floor(position);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

function difference(one, other, unit) {
  const draws = Float64Array.from(one.draws, (draw, at) => (draw - other.draws[at]) / unit).sort();
  return { mean: one.score - other.score, low: quantile(draws, 0.025), high: quantile(draws, 0.975) };
}

function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
}

function showDifference(data, selects, output) {
  const [one, other] = selects.map((select) => data.rows[select.value]);
  for (const name of ["mean", "low", "high"]) delete output.dataset[name];
  if (one.metric !== other.metric) {
    output.textContent = `${one.metric} and ${other.metric} are different scores: there is no difference of them.`;
    return;
  }
  const found = difference(one, other, data.unit);
  for (const name of ["mean", "low", "high"]) output.dataset[name] = found[name];
  const answer = found.low > 0 ? "A is higher" : found.high < 0 ? "A is lower" : "no difference shown";
  output.textContent = `A − B = ${signed(found.mean)} ${one.metric}, 95 % interval ` +
    `[${signed(found.low)}, ${signed(found.high)}]: ${answer}.`;
}

const rowsElement = document.getElementById("rows");
if (rowsElement) {
  const data = JSON.parse(rowsElement.textContent);
  const selects = ["row-a", "row-b"].map((id) => document.getElementById(id));
  const output = document.getElementById("difference");
  const show = () => showDifference(data, selects, output);
  selects.forEach((select) => select.addEventListener("change", show));
  show();
}
