"use strict";
(() => {
  const bar = document.querySelector(".bar");
  if (!bar) return;
  const findings = Array.from(document.querySelectorAll(".finding"), (item) => ({
    item, severity: item.dataset.severity, tier: item.dataset.tier, state: item.dataset.state,
    text: item.closest(".file").dataset.file.toLowerCase() + "\n" + item.textContent.toLowerCase(),
  }));
  const files = Array.from(document.querySelectorAll(".file"));
  const buttons = Array.from(bar.querySelectorAll("button"));
  const search = bar.querySelector("input");
  const shown = document.querySelector("#shown");
  const pressed = (kind) => new Set(
    buttons.filter((one) => one.dataset.kind === kind && one.getAttribute("aria-pressed") === "true")
      .map((one) => one.value));
  const refresh = () => {
    const severities = pressed("severity"), tiers = pressed("tier"), states = pressed("state");
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const one of findings) {
      const fits = severities.has(one.severity) && (one.tier === "must" || tiers.has("maybe"))
        && (one.state === "open" || states.has(one.state)) && words.every((word) => one.text.includes(word));
      one.item.hidden = !fits;
      count += fits ? 1 : 0;
    }
    for (const file of files) file.hidden = !file.querySelector(".finding:not([hidden])");
    shown.textContent = count === findings.length ? "" : `${count} of ${findings.length} shown`;
  };
  bar.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    refresh();
  });
  search.addEventListener("input", refresh);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
    if (event.key === "Escape" && document.activeElement === search) { search.value = ""; refresh(); }
  });
  bar.hidden = false;
  refresh();
})();
