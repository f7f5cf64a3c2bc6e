"use strict";
const points = JSON.parse(document.getElementById("data").textContent);
const sheets = [...document.querySelectorAll("img.sheet")];
const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d");
const tip = document.getElementById("tip");
const mode = document.getElementById("mode");
const colour = document.getElementById("colour");
const across = Math.round(Math.sqrt(points.perSheet));
const count = points.ids.length;
const MARGIN = 28;
let view = { zoom: 1, x: 0.5, y: 0.5 };
let chosen = -1;
let hovered = -1;

for (const name of Object.keys(points.colours)) colour.add(new Option(name, name));
document.getElementById("colourLabel").hidden = colour.options.length === 0;

function hues() {
  const values = points.colours[colour.value];
  if (!values) return { of: () => "hsl(215 60% 50%)", legend: [] };
  const tally = new Map();
  for (const value of values) tally.set(value, (tally.get(value) || 0) + 1);
  const names = [...tally.keys()].sort((a, b) => tally.get(b) - tally.get(a) || (a < b ? -1 : 1));
  const at = new Map(names.map((name, place) => [name, place]));
  const two = { right: "hsl(150 50% 42%)", wrong: "hsl(8 80% 55%)" };
  const paint = (name) => two[name] || `hsl(${(at.get(name) * 137.508) % 360} 65% ${45 + 12 * (at.get(name) % 3)}%)`;
  return { of: (row) => paint(values[row]), legend: names.map((name) => [name, paint(name), tally.get(name)]) };
}
let palette = hues();

function place(row) {
  if (mode.value !== "grid") return [points.x[row], 1 - points.y[row]];
  const cell = points.grid[row];
  return [((cell % points.side) + 0.5) / points.side, 1 - (Math.floor(cell / points.side) + 0.5) / points.side];
}
function extent() {
  const box = canvas.getBoundingClientRect();
  return { width: box.width, height: box.height, scale: (Math.min(box.width, box.height) - 2 * MARGIN) * view.zoom };
}
function toScreen(row) {
  const { width, height, scale } = extent();
  const [x, y] = place(row);
  return [width / 2 + (x - view.x) * scale, height / 2 + (y - view.y) * scale];
}
function tileSide() {
  if (mode.value === "grid") return extent().scale / points.side;
  return Math.min(points.tile * 2, Math.max(14, (extent().scale / Math.sqrt(count)) * 0.9));
}
function drawTile(row, x, y, side) {
  const sheet = sheets[Math.floor(row / points.perSheet)];
  const at = row % points.perSheet;
  if (!sheet || row >= points.shown || !sheet.complete) return false;
  pen.drawImage(sheet, (at % across) * points.tile, Math.floor(at / across) * points.tile, points.tile, points.tile,
    x - side / 2, y - side / 2, side, side);
  return true;
}
function dot(row, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fillStyle = palette.of(row);
  pen.fill();
}
function draw() {
  const box = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = box.width * ratio;
  canvas.height = box.height * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, box.width, box.height);
  const side = tileSide();
  const radius = Math.max(3, Math.min(9, 2.5 + Math.sqrt(view.zoom) * 1.5));
  for (let row = 0; row < count; row += 1) {
    const [x, y] = toScreen(row);
    if (x < -side || y < -side || x > box.width + side || y > box.height + side) continue;
    if (mode.value === "points" || !drawTile(row, x, y, side)) dot(row, x, y, radius);
    else if (palette.legend.length) {
      pen.strokeStyle = palette.of(row);
      pen.lineWidth = Math.max(1, side / 24);
      pen.strokeRect(x - side / 2 + pen.lineWidth / 2, y - side / 2 + pen.lineWidth / 2, side - pen.lineWidth, side - pen.lineWidth);
    }
  }
  const marks = chosen < 0 ? [] : [chosen, ...points.near[chosen]];
  for (const row of hovered < 0 ? marks : [...marks, hovered]) {
    const [x, y] = toScreen(row);
    pen.beginPath();
    pen.arc(x, y, (mode.value === "points" ? radius : side / 2) + 3, 0, 7);
    pen.strokeStyle = row === chosen || row === hovered ? getComputedStyle(document.body).color : palette.of(row);
    pen.lineWidth = 2;
    pen.stroke();
  }
}
function nearest(event) {
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  let best = -1;
  let least = Math.max(14, mode.value === "points" ? 0 : tileSide() * 0.75) ** 2;
  for (let row = 0; row < count; row += 1) {
    const [px, py] = toScreen(row);
    const far = (px - x) ** 2 + (py - y) ** 2;
    if (far < least) [best, least] = [row, far];
  }
  return best;
}
function tile(row) {
  const part = document.createElement("canvas");
  const sheet = sheets[Math.floor(row / points.perSheet)];
  part.width = part.height = points.tile;
  part.className = "tile";
  const at = row % points.perSheet;
  if (sheet && row < points.shown)
    part.getContext("2d").drawImage(sheet, (at % across) * points.tile, Math.floor(at / across) * points.tile,
      points.tile, points.tile, 0, 0, points.tile, points.tile);
  part.style.cssText = "width:112px;height:112px;border:0;cursor:pointer";
  return part;
}
function said(row) {
  const values = Object.entries(points.colours).map(([name, list]) => `${name}: ${list[row]}`);
  return [points.ids[row], ...values].join(" · ");
}
function hover(event) {
  hovered = nearest(event);
  tip.style.display = hovered < 0 ? "none" : "block";
  if (hovered >= 0) {
    tip.replaceChildren(tile(hovered), document.createTextNode(said(hovered)));
    const box = canvas.getBoundingClientRect();
    const right = event.clientX - box.left > box.width - 210;
    tip.style.left = `${event.clientX - box.left + (right ? -150 : 16)}px`;
    tip.style.top = `${Math.min(event.clientY - box.top + 16, box.height - 170)}px`;
  }
  draw();
}
function choose(row) {
  chosen = row;
  const card = document.getElementById("chosen");
  card.style.display = row < 0 ? "none" : "block";
  if (row >= 0) {
    const title = document.createElement("h3");
    title.textContent = said(row);
    const list = document.createElement("div");
    list.className = "near";
    for (const other of points.near[row]) {
      const figure = document.createElement("figure");
      const button = document.createElement("button");
      button.type = "button";
      button.append(tile(other), document.createTextNode(said(other)));
      button.addEventListener("click", () => choose(other));
      figure.append(button);
      list.append(figure);
    }
    const caption = document.createElement("p");
    caption.className = "path";
    caption.textContent = "Its nearest in the space itself, nearest first:";
    card.replaceChildren(title, tile(row), caption, list);
  }
  draw();
}
function zoomAt(clientX, clientY, factor) {
  const box = canvas.getBoundingClientRect();
  const before = extent().scale;
  const dx = clientX - box.left - box.width / 2;
  const dy = clientY - box.top - box.height / 2;
  view.zoom = Math.min(200, Math.max(0.5, view.zoom * factor));
  const after = extent().scale;
  view.x += dx / before - dx / after;
  view.y += dy / before - dy / after;
  draw();
}

const held = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (event) => {
  held.set(event.pointerId, event);
  moved = 0;
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!held.has(event.pointerId)) return hover(event);
  const last = held.get(event.pointerId);
  const others = [...held.values()].filter((one) => one.pointerId !== event.pointerId);
  held.set(event.pointerId, event);
  moved += Math.abs(event.clientX - last.clientX) + Math.abs(event.clientY - last.clientY);
  if (others.length) {
    const [other] = others;
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    zoomAt((event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2, apart(event) / Math.max(1, apart(last)));
  } else {
    view.x -= (event.clientX - last.clientX) / extent().scale;
    view.y -= (event.clientY - last.clientY) / extent().scale;
    draw();
  }
});
canvas.addEventListener("pointerup", (event) => {
  held.delete(event.pointerId);
  if (moved < 5) choose(nearest(event));
});
canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
canvas.addEventListener("pointerleave", () => {
  hovered = -1;
  tip.style.display = "none";
  draw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(event.clientX, event.clientY, Math.exp(-event.deltaY / 400));
}, { passive: false });
mode.addEventListener("change", draw);
colour.addEventListener("change", () => {
  palette = hues();
  showLegend();
  draw();
});
document.getElementById("reset").addEventListener("click", () => {
  view = { zoom: 1, x: 0.5, y: 0.5 };
  draw();
});
function showLegend() {
  const items = palette.legend.slice(0, 24).map(([name, paint, tally]) => {
    const item = document.createElement("span");
    const mark = document.createElement("i");
    mark.style.background = paint;
    item.append(mark, document.createTextNode(`${name} (${tally})`));
    return item;
  });
  if (palette.legend.length > 24) items.push(document.createTextNode(`and ${palette.legend.length - 24} more`));
  document.getElementById("legend").replaceChildren(...items);
}
showLegend();
window.addEventListener("resize", draw);
Promise.all(sheets.map((sheet) => sheet.decode().catch(() => undefined))).then(draw);
draw();
