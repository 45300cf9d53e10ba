"use strict";

// Draws a trend: the band from the smallest to the largest value of each piece, and its last one. Drag to look closer.
const chart = document.getElementById("chart");
const { tag } = chart.dataset;
const language = document.documentElement.lang;
const FOLLOW_EVERY = 10_000;
const HEIGHT = 360;

let [from, to] = [Number(chart.dataset.from), Number(chart.dataset.to)];
let follows = "follows" in chart.dataset;
let plot = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seconds = (millis) => millis / 1000;
const time = (at) => new Date(at * 1000);
const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString(language, { maximumSignificantDigits: 6 }));

function timesOf(plotted, splits) {
    const span = plotted.scales.x.max - plotted.scales.x.min;
    const style = span < 120 ? { timeStyle: "medium" } : span < 90_000 ? { timeStyle: "short" }
        : span < 8 * 86_400 ? { weekday: "short", hour: "2-digit", minute: "2-digit" } : { dateStyle: "short" };
    return splits.map((at) => time(at).toLocaleString(language, style));
}

// A column each for uPlot; where pieces are far apart, an empty one breaks the line.
function columns({ start, length_seconds: length, minimum, maximum, last, bad, readings }) {
    const data = { x: [], low: [], high: [], line: [], poor: [], holes: [] };
    const distances = start.slice(1).map((at, before) => at - start[before]).sort((one, other) => one - other);
    const usual = Math.max(distances[distances.length >> 1] ?? 0, length * 1000);
    start.forEach((at, place) => {
        const before = start[place - 1];
        if (before !== undefined && at - before > 3 * usual) {
            data.holes.push([seconds(before + length * 1000), seconds(at)]);
            data.x.push(seconds(before + usual));
            data.low.push(null), data.high.push(null), data.line.push(null);
        }
        if (bad[place] > 0) data.poor.push([seconds(at), seconds(at) + length, bad[place] / readings[place]]);
        data.x.push(seconds(at) + length / 2);
        data.low.push(minimum[place]), data.high.push(maximum[place]), data.line.push(last[place]);
    });
    if (start.length > 0) {
        const [first, end] = [start[0], start.at(-1) + length * 1000];
        if (first - from > 3 * usual) data.holes.unshift([seconds(from), seconds(first)]);
        if (to - end > 3 * usual) data.holes.push([seconds(end), seconds(to)]);
    }
    return data;
}

function shade(plotted, stretches, name, strength) {
    const { ctx, bbox } = plotted;
    ctx.save();
    ctx.fillStyle = colour(name);
    for (const [start, end, share] of stretches) {
        const left = Math.max(plotted.valToPos(start, "x", true), bbox.left);
        const right = Math.min(plotted.valToPos(end, "x", true), bbox.left + bbox.width);
        ctx.globalAlpha = strength * (share === undefined ? 1 : Math.max(share, 0.35));
        if (right > left) ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
    }
    ctx.restore();
}

function draw(answer) {
    const data = columns(answer);
    const { time: timeWord, value, smallest, largest } = chart.dataset;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const options = {
        width: chart.clientWidth,
        height: HEIGHT,
        scales: { x: { time: true, range: () => [seconds(from), seconds(to)] } },
        axes: [{ ...axis, values: timesOf, space: 90 }, { ...axis, size: 70, values: (_, splits) => splits.map(number) }],
        series: [
            { label: timeWord, value: (_, at) => (at ? time(at).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" }) : "–") },
            { label: smallest, stroke: colour("--edge"), width: 0.5, points: { show: false }, value: (_, it) => number(it) },
            { label: largest, stroke: colour("--edge"), width: 0.5, points: { show: false }, value: (_, it) => number(it) },
            { label: value, stroke: colour("--text"), width: 1.5, points: { size: 4 }, value: (_, it) => number(it) },
        ],
        bands: [{ series: [2, 1], fill: colour("--line") }],
        cursor: { drag: { x: true, y: false, setScale: false } },
        hooks: {
            drawClear: [(plotted) => {
                shade(plotted, data.holes, "--line", 0.45);
                shade(plotted, data.poor, "--attention", 0.55);
            }],
            setSelect: [({ select, posToVal }) => {
                if (select.width < 8) return;
                const [left, right] = [posToVal(select.left, "x"), posToVal(select.left + select.width, "x")];
                go(Math.round(left * 1000), Math.round(right * 1000));
            }],
        },
    };
    plot?.destroy();
    chart.textContent = "";
    plot = new uPlot(options, [data.x, data.low, data.high, data.line], chart);
    chart.dataset.drawn = data.x.length;
}

function say(text) {
    plot?.destroy();
    plot = null;
    chart.textContent = text;
    chart.dataset.drawn = "none";
}

let loading = false;

async function load() {
    if (loading) return;
    loading = true;
    await look().finally(() => { loading = false; });
}

async function look() {
    const query = new URLSearchParams({ tag, from: new Date(from).toISOString(), to: new Date(to).toISOString() });
    const answer = await fetch("/api/trend?" + query).catch(() => null);
    if (!answer?.ok) return say((await answer?.text().catch(() => null)) || chart.dataset.failed);
    const read = await answer.json().catch(() => null);
    if (!read) return say(chart.dataset.failed);
    if (read.start.length === 0) return say(chart.dataset.none);
    draw(read);
}

// As a page of its own, so that “back” leads back.
function go(newFrom, newTo) {
    const query = new URLSearchParams({ tag, from: new Date(newFrom).toISOString(), to: new Date(newTo).toISOString() });
    location.assign("/trend?" + query);
}

load();
setInterval(() => {
    if (!follows || document.hidden || loading || plot?.select.width > 0) return;
    const length = to - from;
    to = Date.now();
    from = to - length;
    load();
}, FOLLOW_EVERY);
let resized = null;
addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => plot?.setSize({ width: chart.clientWidth, height: HEIGHT }), 150);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", load);
