// @ts-check
// The menu of a gauge: where a draft may go to be counted, said plainly.

const MODES = [
  ["live", "Live: the draft goes to the host that would receive it, to be counted, once it is edited or has the cursor."],
  ["local", "Local: the draft stays here; the count is an estimate."],
  ["off", "Off: nothing is counted."],
];
const HINT = "For this session; %kimi_config --save gauge=… keeps it.";

/**
 * Open the menu beside `button`; returns a function that closes it.
 * @param {HTMLElement} button
 * @param {{mode?: string, isReady: boolean, choose: (mode: string) => void, closed: () => void}} options
 */
export function openMenu(button, { mode, isReady, choose, closed }) {
  const menu = document.createElement("div");
  menu.className = "kimi-gauge-menu";
  menu.setAttribute("role", "menu");
  const gone = new AbortController();
  const { signal } = gone;
  const close = () => {
    if (signal.aborted) return;
    gone.abort();
    menu.remove();
    button.focus();
    closed();
  };
  for (const [name, sentence] of MODES) {
    const item = menu.appendChild(document.createElement("button"));
    item.setAttribute("role", "menuitemradio");
    item.setAttribute("aria-checked", String(name === mode));
    item.dataset.mode = name;
    item.textContent = sentence;
    item.disabled = !isReady;
    item.onclick = () => {
      choose(name);
      close();
    };
  }
  const hint = menu.appendChild(document.createElement("div"));
  hint.className = "kimi-gauge-hint";
  hint.textContent = HINT;
  place(menu, button);
  const leave = ({ target }) => menu.contains(target) || button.contains(target) || close();
  document.addEventListener("pointerdown", leave, { signal, capture: true });
  // Not any scrolling: a front end scrolls to the cell that is clicked.
  document.addEventListener("wheel", leave, { signal, capture: true, passive: true });
  menu.addEventListener("keydown", event => steer(event, menu, close), { signal });
  /** @type {HTMLElement | null} */ (menu.querySelector("[aria-checked=true]") ?? menu.querySelector("button"))?.focus();
  return close;
}

function place(menu, button) {
  const box = button.getBoundingClientRect();
  document.body.append(menu);
  const { width, height } = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, box.right - width)}px`;
  menu.style.top = `${box.bottom + height + 8 > innerHeight ? box.top - height - 4 : box.bottom + 4}px`;
}

function steer(event, menu, close) {
  const items = [...menu.querySelectorAll("button")];
  const at = items.indexOf(event.target);
  if (event.key === "Escape") close();
  else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
  else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
  else return;
  event.preventDefault();
  event.stopPropagation();
}
