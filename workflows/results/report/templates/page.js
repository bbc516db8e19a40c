"use strict";
const every = (selector, from = document) => [...from.querySelectorAll(selector)];
const tip = document.getElementById("tip");

// Sorting: numbers by value, texts by the reader's language, what is missing last in both directions.
every("th .sort").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const column = head.cellIndex, up = head.getAttribute("aria-sort") !== "ascending";
  const numeric = head.classList.contains("number");
  const key = (row) => row.cells[column].dataset.key ?? "";
  every("th", head.parentNode).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
    return up ? order : -order;
  }).forEach((row) => body.append(row));
}));

// Method toggles: of their own chapter.
every("input[data-toggles]").forEach((box) => {
  const show = () => every("[data-method]", box.closest("article"))
    .filter((mark) => mark.dataset.method === box.dataset.toggles)
    .forEach((mark) => mark.classList.toggle("off", !box.checked));
  box.addEventListener("change", show);
  if (!box.checked) show();
});

// Values: under a pointer or a finger, and by arrow keys inside a figure.
const place = (mark) => {
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = Math.min(Math.max(box.left + box.width / 2 + 10, 4), innerWidth - own.width - 4);
  const top = box.top - own.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${top < 4 ? box.bottom + 8 : top}px`;
};
const hide = () => { tip.hidden = true; every(".here").forEach((mark) => mark.classList.remove("here")); };
document.addEventListener("pointerover", (event) => {
  const mark = event.target.closest?.("[data-tip]");
  if (mark) place(mark); else hide();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
every(".drawing").forEach((drawing) => {
  let at = -1;
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const marks = every("[data-tip]", drawing).filter((mark) => !mark.closest(".off"));
    if (!step || !marks.length) return;
    event.preventDefault();
    at = (at + step + marks.length) % marks.length;
    hide();
    marks[at].classList.add("here");
    place(marks[at]);
  });
});

every(".copier").forEach((button) => button.addEventListener("click", async () => {
  const area = document.getElementById(button.dataset.copies);
  area.select();
  try { await navigator.clipboard.writeText(area.value); } catch { document.execCommand("copy"); }
  const before = button.textContent;
  button.textContent = "copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}));

const theme = document.getElementById("theme"), root = document.documentElement;
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const label = () => { theme.textContent = dark() ? "light" : "dark"; theme.setAttribute("aria-pressed", String(dark())); };
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
label();
