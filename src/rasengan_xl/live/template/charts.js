"use strict";

/* Loss by step, drawn anew whenever it has changed. */
const DASHES = 4;
const MEANS_A_RUN = 15;
const CHART = { height: 150, left: 44, right: 12, top: 8, bottom: 20 };

function runningMean(run) {
  const points = run.curve.points;
  const span = Math.max(1, Math.round(run.steps / run.curve.steps_per_point / MEANS_A_RUN));
  let sum = 0;
  const means = points.map(([step, value], place) => {
    sum += value - (place >= span ? points[place - span][1] : 0);
    return [step, sum / span];
  });
  return means.slice(span - 1);
}

function chooseAxes(runs) {
  const smooth = runs.flatMap((run) => [...runningMean(run).map(([, mean]) => mean), ...run.checkpoints.map((point) => point.loss)]);
  const values = smooth.length ? smooth : runs.flatMap((run) => run.curve.points.map(([, value]) => value));
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.15 * (high - low), 0.02 * high, 1e-6);
  return { low: Math.max(0, low - room), high: high + room, steps: Math.max(...runs.map((run) => run.steps)) };
}

function chooseTicks(low, high) {
  const rough = (high - low) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const ticks = [];
  for (let number = Math.ceil(low / width); number * width <= high; number += 1) ticks.push(number * width);
  const digits = Math.max(0, -Math.floor(Math.log10(width) + 1e-9));
  return ticks.map((value) => ({ value, text: value.toFixed(digits) }));
}

function showChart(svg, arm, runs, axes) {
  const width = svg.clientWidth || 360;
  const { height, left, right, top, bottom } = CHART;
  setAttribute(svg, "viewBox", `0 0 ${width} ${height}`);
  if (!axes) {
    setAttribute(svg, "aria-label", `Loss of ${arm}: no step yet`);
    svg.replaceChildren(label(width / 2, height / 2, "middle", "no step yet"));
    return;
  }
  const x = (step) => left + (step / axes.steps) * (width - left - right);
  const y = (value) => top + ((axes.high - value) / (axes.high - axes.low)) * (height - top - bottom);
  const frame = { x: left - 5, y: top - 5, width: width - left + 5, height: height - top - bottom + 10 };
  const body = drawn("svg");
  for (const [name, value] of Object.entries(frame)) body.setAttribute(name, value);
  body.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.width} ${frame.height}`);
  runs.forEach((run, place) => body.append(...drawRun(run, place, x, y)));
  setAttribute(svg, "aria-label", describeChart(arm, runs));
  svg.replaceChildren(...drawAxes(axes, width, x, y), body);
}

function describeChart(arm, runs) {
  const ends = runs.flatMap((run) => runningMean(run).slice(-1).map(([step, mean]) => `seed ${run.seed}: ${loss(mean)} at step ${step}`));
  return `Running mean of the training loss of ${arm}. ${ends.join("; ") || "Too few steps yet"}.`;
}

function label(x, y, anchor, text) {
  const node = drawn("text");
  node.setAttribute("x", x);
  node.setAttribute("y", y);
  node.setAttribute("text-anchor", anchor);
  node.textContent = text;
  return node;
}

function drawAxes(axes, width, x, y) {
  const nodes = chooseTicks(axes.low, axes.high).flatMap(({ value, text }) => {
    const rule = drawn("path", "rule");
    rule.setAttribute("d", `M${CHART.left} ${y(value)}H${width - CHART.right}`);
    return [rule, label(CHART.left - 8, y(value) + 4, "end", text)];
  });
  const foot = CHART.height - 4;
  return [...nodes, label(x(0), foot, "start", "0"), label(x(axes.steps), foot, "end", `step ${count(axes.steps)}`)];
}

function drawRun(run, place, x, y) {
  const line = (className, points) => {
    const path = drawn("path", className);
    path.setAttribute("d", points.map(([step, value], n) => `${n ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""));
    return path;
  };
  const circles = run.checkpoints.map((point) => {
    const circle = drawn("circle", "held");
    const title = drawn("title");
    title.textContent = `seed ${run.seed}, step ${point.step}: held-out loss ${loss(point.loss)}\u00a0±\u00a0${loss(point.standard_error)}`;
    for (const [name, value] of Object.entries({ cx: x(point.step), cy: y(point.loss), r: 4 })) circle.setAttribute(name, value);
    circle.append(title);
    return circle;
  });
  return [line("raw", run.curve.points), line(`mean seed-${place % DASHES}`, runningMean(run)), ...circles];
}

