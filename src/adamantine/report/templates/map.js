// Heat maps: one tooltip for all, a ring around the cell and around its twin in the other coordinates, and a
// roving tabindex: a map is one stop of the Tab key, arrow keys move within it.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");  // each cell says the same in its label
document.body.append(tip);
const told = new Map();  // cell -> lines
let current = null;

function rings(cell, shown) {
  for (const twin of document.querySelectorAll(`[data-cell="${cell.dataset.cell}"]`)) {
    const ring = twin.closest("svg").querySelector(".ring");
    if (shown) {
      for (const side of ["x", "y", "width", "height"]) {
        ring.setAttribute(side, twin.querySelector("rect").getAttribute(side));
      }
    }
    ring.toggleAttribute("hidden", !shown);
  }
}

function hide() {
  if (current) rings(current, false);
  current = null;
  tip.hidden = true;
}

function show(cell) {
  if (cell === current) return;
  hide();
  current = cell;
  tip.replaceChildren(...told.get(cell).map((line, at) => {
    const row = document.createElement(at ? "div" : "b");
    const [name, value] = line.split(/: |：/);
    row.append(name);
    if (value !== undefined) row.append(Object.assign(document.createElement("span"), { textContent: value }));
    return row;
  }));
  tip.hidden = false;
  rings(cell, true);
  const box = cell.querySelector("rect").getBoundingClientRect(), size = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - size.width - 8;
  const left = Math.max(8, Math.min(room, box.x + box.width / 2 - size.width / 2));
  const above = box.y - size.height - 10;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : box.bottom + 10) + scrollY}px`;
}

for (const map of document.querySelectorAll("svg[role=grid]")) {
  const rows = [...map.querySelectorAll("[role=row]")].map((row) => [...row.children]);
  const ring = document.createElementNS(map.namespaceURI, "rect");
  ring.setAttribute("class", "ring");
  ring.toggleAttribute("hidden", true);
  map.append(ring);
  rows.forEach((cells, i) => cells.forEach((cell, j) => {
    const title = cell.querySelector("title");  // the tooltip of browsers, where no script runs
    told.set(cell, title.textContent.split("\n"));
    cell.setAttribute("aria-label", told.get(cell).join("; "));
    title.remove();
    cell.setAttribute("tabindex", "entrance" in cell.dataset ? 0 : -1);
    const go = (to) => {
      if (!to) return;
      cell.setAttribute("tabindex", -1);
      to.setAttribute("tabindex", 0);
      to.focus();
    };
    const moves = {
      ArrowLeft: () => cells[j - 1], ArrowRight: () => cells[j + 1],
      ArrowUp: () => rows[i - 1]?.[j], ArrowDown: () => rows[i + 1]?.[j],
      Home: () => cells[0], End: () => cells.at(-1),
    };
    cell.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in moves)) return;
      event.preventDefault();
      go(moves[event.key]());
    });
    cell.addEventListener("focus", () => show(cell));
    cell.addEventListener("blur", hide);
    cell.addEventListener("click", () => { cell.focus({ preventScroll: true }); show(cell); });
    cell.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") show(cell); });
    cell.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && document.activeElement !== cell) hide();
    });
  }));
}
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
for (const hint of document.querySelectorAll(".scripted")) hint.hidden = false;
