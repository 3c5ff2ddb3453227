"use strict";
// Draws the charts from the data in the page, in the colours of its style sheet; again when these
// change, when the page is as wide as it was not, and for paper.
(() => {
  const root = document.documentElement;
  const read = (id) => document.getElementById(id).textContent;
  const data = Object.entries(JSON.parse(read("data")));
  const SECONDS = 1e-6;
  // The second family and service times have dashes of their own: colour alone tells nothing.
  const DASHES = { IPv4: { response: "solid", service: "dot" }, IPv6: { response: "dash", service: "dashdot" } };

  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function line(title, family, span, more) {
    const looks = { color: colour(family.toLowerCase()), width: span === "response" ? 2.2 : 1.4, dash: DASHES[family][span] };
    return { type: "scatter", mode: "lines", name: title, line: looks, ...more };
  }

  function axis(title) {
    return { title: { text: title, font: { size: 12 } }, gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true };
  }

  // The steps of ticks within a decade, from few to many.
  const STEPS = [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9], Array.from({ length: 90 }, (_, step) => 1 + step / 10)];

  // A logarithmic axis of times in seconds, with as many ticks as there is room for.
  function times(title, traces, coordinate, room) {
    const values = traces.flatMap((trace) => trace[coordinate]).filter((value) => value > 0);
    const least = Math.min(...values) / 1.05;
    const most = Math.max(...values) * 1.05;
    const first = Math.floor(Math.log10(least));
    const decades = Array.from({ length: Math.ceil(Math.log10(most)) - first }, (_, place) => 10 ** (first + place));
    const choices = STEPS.map((steps) => decades.flatMap((decade) => steps.map((step) => step * decade)).filter((tick) => least <= tick && tick <= most));
    const ticks = choices.findLast((choice) => choice.length <= room) ?? choices[0];
    return { type: "log", tickvals: ticks, ticktext: ticks.map(time), ...axis(title) };
  }

  function time(seconds) {
    const [size, unit] = seconds >= 0.9999 ? [1, "s"] : seconds >= 0.0009999 ? [1e-3, "ms"] : [1e-6, "µs"];
    return Number((seconds / size).toPrecision(3)) + " " + unit;
  }

  function percentiles({ clientWidth: width, clientHeight: height }) {
    const most = Math.max(...data.flatMap(([, family]) => Object.values(family.percentiles).flatMap((curve) => curve.map(([place]) => place))));
    const places = [1, 2, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9].filter((place) => place <= most && !(width < 480 && place === 2));
    const name = (place) => Number((100 - 100 / place).toPrecision(12)) + "%";
    const traces = data.flatMap(([family, { percentiles: curves }]) => Object.entries(curves).map(([span, curve]) =>
      line(Object.keys(curves).length > 1 ? family + " " + span : family, family, span, {
        x: curve.map(([place]) => place),
        y: curve.map(([, latency]) => latency * SECONDS),
        customdata: curve.map(([place]) => (100 - 100 / place).toPrecision(6).replace(/\.?0+$/, "")),
        hovertemplate: "%{customdata}%: %{y:.4~s}s",
      })));
    return [traces, {
      xaxis: { type: "log", tickvals: places, ticktext: places.map(name), ...axis("share of exchanges that came back within it (log)") },
      yaxis: times("latency (log)", traces, "y", height / 25),
    }];
  }

  function spread({ clientWidth: width }) {
    const traces = data.filter(([, family]) => family.spread.length).map(([family, { spread: bins }], number) => {
      // Steps: each bin's share from its lower edge on, and 0 where no bin follows.
      const steps = bins.flatMap(([low, high, share], place) => {
        const next = bins[place + 1];
        return [[low, share], ...(next && next[0] <= high * 1.0001 ? [] : [[high, 0]])];
      });
      return line(family, family, "response", {
        x: [bins[0][0], ...steps.map(([edge]) => edge)].map((edge) => edge * SECONDS),
        y: [0, ...steps.map(([, share]) => 100 * share)],
        line: { shape: "hv", color: colour(family.toLowerCase()), width: 1.8 },
        // The one as an area, the other as a line over it.
        fill: number === 0 ? "tozeroy" : "none",
        fillcolor: colour(family.toLowerCase()) + "38",
        hovertemplate: "from %{x:.3~s}s: %{y:.3f}%",
      });
    });
    return [traces, {
      xaxis: times("latency (log, 30 bins a decade)", traces, "x", width / 60),
      yaxis: { ticksuffix: "%", rangemode: "tozero", ...axis("share of exchanges") },
    }];
  }

  function slices({ clientHeight: height }) {
    const traces = data.flatMap(([family, { slices: found }]) => {
      const x = found.map(([start, duration]) => start + duration / 2);
      const dots = { mode: "lines+markers", marker: { size: 6, symbol: family === "IPv4" ? "circle" : "diamond" }, x, legendgroup: family };
      return [
        line(family, family, "response", { ...dots, y: found.map((slice) => slice[2]), hovertemplate: "%{x:.2f}s: %{y:,.0f} a second" }),
        line(family, family, "response", { ...dots, y: found.map((slice) => slice[3] === null ? null : slice[3] * SECONDS), yaxis: "y2", showlegend: false, hovertemplate: "%{x:.2f}s: %{y:.4~s}s" }),
      ];
    });
    return [traces, {
      xaxis: { ticksuffix: " s", anchor: "y2", rangemode: "tozero", ...axis("time since the measuring began") },
      yaxis: { domain: [0.55, 1], tickformat: "~s", rangemode: "tozero", ...axis("exchanges a second") },
      yaxis2: { domain: [0, 0.47], ...times("p99 (log)", traces.filter((trace) => trace.yaxis === "y2"), "y", height / 60) },
    }];
  }

  function draw() {
    for (const [id, chart] of Object.entries({ percentiles, spread, slices })) {
      const box = document.getElementById(id);
      if (box === null) continue;
      const [traces, layout] = chart(box);
      Plotly.react(box, traces, {
        ...layout,
        width: box.clientWidth,
        height: box.clientHeight,
        margin: { l: 10, r: 14, t: 34, b: 10 },
        font: { family: getComputedStyle(document.body).fontFamily, size: box.clientWidth < 480 ? 11 : 13, color: colour("ink") },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        showlegend: true,
        legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom" },
        hoverlabel: { bgcolor: colour("card"), font: { color: colour("ink") } },
        // A finger that scrolls the page draws no zoom.
        dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      }, { displayModeBar: false });
    }
  }

  function print(printing) {
    root.classList.toggle("printing", printing);
    draw();
  }

  draw();
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  const save = document.getElementById("save");
  save.href = "data:application/json;charset=utf-8," + encodeURIComponent(read("result"));
  save.hidden = false;
})();
