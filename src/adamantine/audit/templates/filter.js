"use strict";
// The filter exists only where this script runs; without it all rows are shown.
for (const form of document.querySelectorAll("[data-filters]")) {
  const rows = [...document.getElementById(form.dataset.filters).tBodies[0].rows];
  const words = form.querySelector("input[type=search]");
  const wrong = form.querySelector("input[type=checkbox]");
  const status = form.querySelector("[role=status]");
  const texts = rows.map((row) => `${row.textContent} ${row.dataset.names}`.toLowerCase());
  form.hidden = false;
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !(wanted.every((word) => texts[i].includes(word))
        && (!wrong?.checked || row.classList.contains("wrong")));
      shown += row.hidden ? 0 : 1;
    });
    status.textContent = shown === rows.length ? "" : form.dataset.shown.replace("#", shown).replace("##", rows.length);
  };
  form.addEventListener("input", apply);
  apply();
}
