"use strict";
(() => {
  const dialog = document.querySelector("dialog.enlarged");
  let current = null;

  const shotAt = (wall, row, column) =>
    [...wall.querySelectorAll(`.shot[data-row="${row}"][data-column="${column}"]`)].find(
      (shot) => !shot.hidden,
    );

  const enlarge = (shot) => {
    const [source, picture] = [shot.querySelector("img"), dialog.querySelector("img")];
    current = shot;
    picture.src = source.src;
    picture.alt = source.alt;
    picture.className = source.className;
    picture.width = source.width;
    picture.style.aspectRatio = `${source.getAttribute("width")} / ${source.getAttribute("height")}`;
    dialog.querySelector("#enlarged-title").textContent = source.alt;
    if (!dialog.open) dialog.showModal();
  };

  // Goes on past places that hold no picture, and stops at the edges of the wall.
  const move = (across, down) => {
    const wall = current.closest(".wall");
    let [row, column] = [Number(current.dataset.row), Number(current.dataset.column)];
    const [rows, columns] = ["row", "column"].map(
      (name) => 1 + Math.max(...[...wall.querySelectorAll(".shot")].map((shot) => +shot.dataset[name])),
    );
    for (;;) {
      [row, column] = [row + down, column + across];
      if (row < 0 || column < 0 || row >= rows || column >= columns) return;
      const next = shotAt(wall, row, column);
      if (next) return enlarge(next);
    }
  };

  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  dialog.addEventListener("keydown", (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    move(...moves[event.key]);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest(".close")) dialog.close();
    const button = event.target.closest("[data-move]");
    if (button) move(...button.dataset.move.split(",").map(Number));
  });
  dialog.addEventListener("close", () => current?.focus());

  const prepareWall = (wall) => {
    for (const shot of wall.querySelectorAll(".shot")) {
      shot.addEventListener("click", () => enlarge(shot));
    }
    const slider = wall.querySelector(".slider");
    if (!slider) return;
    const stage = slider.querySelector(".stage");
    const range = stage.querySelector("input");
    const choose = Object.fromEntries(
      [...slider.querySelectorAll("select")].map((select) => [select.name, select]),
    );
    const prompts = wall.querySelectorAll(".grid tbody th");

    const show = () => {
      let absent = false;
      for (const side of ["left", "right"]) {
        const shot = shotAt(wall, choose.row.value, choose[side].value);
        const source = shot?.querySelector("img");
        const picture = stage.querySelector(`img.${side}`);
        picture.hidden = !source;
        absent ||= !source;
        if (source) {
          picture.src = source.src;
          picture.alt = source.alt;
          picture.className = `${side} ${source.className}`;
          const [width, height] = ["width", "height"].map((name) => source.getAttribute(name));
          stage.style.aspectRatio = `${width} / ${height}`;
        }
        const option = choose[side].selectedOptions[0];
        const seed = shot?.dataset.seed;
        stage.querySelector(`.tag-${side}`).textContent =
          option.textContent + (seed === undefined ? "" : ` · seed ${seed}`);
      }
      stage.querySelector(".absent").hidden = !absent;
      const prompt = prompts[choose.row.value].cloneNode(true);
      slider.querySelector(".shown").replaceChildren(...prompt.childNodes);
    };

    const cut = (percent) => {
      range.value = percent;
      stage.style.setProperty("--cut", `${range.value}%`);
    };
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      cut(((event.clientX - box.left) / box.width) * 100);
    };
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      range.focus({ preventScroll: true });
      follow(event);
    });
    // Pressing the mouse would take the focus away again, and with it the arrow keys.
    stage.addEventListener("mousedown", (event) => event.preventDefault());
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    range.addEventListener("input", () => cut(range.value));
    for (const select of Object.values(choose)) select.addEventListener("change", show);

    const seeds = wall.querySelector(".seeds");
    seeds?.addEventListener("change", (event) => {
      for (const each of wall.querySelectorAll("[data-seed]")) {
        each.hidden = each.dataset.seed !== event.target.value;
      }
      show();
    });
    if (seeds) {
      seeds.hidden = false;
      // A browser that goes back to a page remembers what was checked; the pictures do not.
      seeds.querySelector("input").checked = true;
    }
    choose.row.value = "0";
    choose.left.value = "0";
    choose.right.value = String(Math.min(1, choose.right.length - 1));
    slider.hidden = false;
    cut(50);
    show();
  };
  for (const wall of document.querySelectorAll(".wall")) prepareWall(wall);

  // An arm taken out of one chart is taken out of all, and every legend says so.
  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      const { toggle } = button.dataset;
      for (const twin of document.querySelectorAll(`[data-toggle="${toggle}"]`)) {
        twin.setAttribute("aria-pressed", String(on));
      }
      for (const part of document.querySelectorAll(`[data-series="${toggle}"]`)) {
        part.classList.toggle("off", !on);
      }
    });
  }
})();
