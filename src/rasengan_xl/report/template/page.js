"use strict";
(() => {
  const slider = document.getElementById("slider");
  if (slider) {
    const stage = slider.querySelector(".stage");
    const range = stage.querySelector("input");
    const choose = Object.fromEntries(
      [...slider.querySelectorAll("select")].map((select) => [select.name, select]),
    );
    const cells = new Map(
      [...document.querySelectorAll(".grid a")].map((link) => [
        `${link.dataset.row}/${link.dataset.column}`,
        link.querySelector("img"),
      ]),
    );
    const prompts = document.querySelectorAll(".grid tbody th");

    const show = () => {
      let absent = false;
      for (const side of ["left", "right"]) {
        const source = cells.get(`${choose.row.value}/${choose[side].value}`);
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
        stage.querySelector(`.tag-${side}`).textContent = option.textContent;
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
    for (const link of document.querySelectorAll(".grid a")) {
      link.addEventListener("click", () => {
        choose.row.value = link.dataset.row;
        if (link.dataset.column !== choose.left.value) choose.right.value = link.dataset.column;
        show();
      });
    }
    choose.left.value = "0";
    choose.right.value = String(Math.min(1, choose.right.length - 1));
    slider.hidden = false;
    cut(50);
    show();
  }

  for (const button of document.querySelectorAll("[data-toggle]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const part of document.querySelectorAll(`[data-series="${button.dataset.toggle}"]`)) {
        part.classList.toggle("off", !on);
      }
    });
  }
})();
