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

  // An axis of times in seconds, whose ticks read 50µs, 2ms.
  function times(title, more) {
    return { title: { text: title }, type: "log", tickformat: "~s", ticksuffix: "s", ...axis(), ...more };
  }

  function axis() {
    return { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true };
  }

  function percentiles(narrow) {
    const most = Math.max(...data.flatMap(([, family]) => Object.values(family.percentiles).flatMap((curve) => curve.map(([place]) => place))));
    const places = [1, 2, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9].filter((place) => place <= most && !(narrow && place === 2));
    const name = (place) => Number((100 - 100 / place).toPrecision(12)) + "%";
    const traces = data.flatMap(([family, { percentiles: curves }]) => Object.entries(curves).map(([span, curve]) =>
      line(Object.keys(curves).length > 1 ? family + " " + span : family, family, span, {
        x: curve.map(([place]) => place),
        y: curve.map(([, latency]) => latency * SECONDS),
        customdata: curve.map(([place]) => (100 - 100 / place).toPrecision(6).replace(/\.?0+$/, "")),
        hovertemplate: "%{customdata}%: %{y:.4~s}s",
      })));
    return [traces, {
      xaxis: { title: { text: "exchanges that came back within it, of all (log)" }, type: "log", tickvals: places, ticktext: places.map(name), ...axis() },
      yaxis: times("latency (log)"),
    }];
  }

  function spread() {
    const traces = data.filter(([, family]) => family.spread.length).map(([family, { spread: bins }]) => {
      // Steps: each bin's share from its lower edge on, and 0 where no bin follows.
      const steps = bins.flatMap(([low, high, share], place) => {
        const next = bins[place + 1];
        return [[low, share], ...(next && next[0] <= high * 1.0001 ? [] : [[high, 0]])];
      });
      return line(family, family, "response", {
        x: [bins[0][0], ...steps.map(([edge]) => edge)].map((edge) => edge * SECONDS),
        y: [0, ...steps.map(([, share]) => 100 * share)],
        line: { shape: "hv", color: colour(family.toLowerCase()), width: 1.8, dash: DASHES[family].response },
        fill: "tozeroy",
        fillcolor: colour(family.toLowerCase()) + "38",
        hovertemplate: "from %{x:.3~s}s: %{y:.3f}%",
      });
    });
    return [traces, {
      xaxis: times("latency (log, 30 bins a decade)"),
      yaxis: { title: { text: "share of exchanges" }, ticksuffix: "%", rangemode: "tozero", ...axis() },
    }];
  }

  function slices() {
    const traces = data.flatMap(([family, { slices: found }]) => {
      const x = found.map(([start, duration]) => start + duration / 2);
      const dots = { mode: "lines+markers", marker: { size: 6, symbol: family === "IPv4" ? "circle" : "diamond" }, x, legendgroup: family };
      return [
        line(family, family, "response", { ...dots, y: found.map((slice) => slice[2]), hovertemplate: "%{x:.2f}s: %{y:,.0f} a second" }),
        line(family, family, "response", { ...dots, y: found.map((slice) => slice[3] === null ? null : slice[3] * SECONDS), yaxis: "y2", showlegend: false, hovertemplate: "%{x:.2f}s: %{y:.4~s}s" }),
      ];
    });
    return [traces, {
      xaxis: { title: { text: "time since the measuring began" }, ticksuffix: "s", anchor: "y2", rangemode: "tozero", ...axis() },
      yaxis: { title: { text: "exchanges a second" }, domain: [0.55, 1], tickformat: "~s", rangemode: "tozero", ...axis() },
      yaxis2: times("p99 (log)", { domain: [0, 0.47] }),
    }];
  }

  function draw() {
    for (const [id, chart] of Object.entries({ percentiles, spread, slices })) {
      const box = document.getElementById(id);
      if (box === null) continue;
      const narrow = box.clientWidth < 480;
      const [traces, layout] = chart(narrow);
      Plotly.react(box, traces, {
        ...layout,
        width: box.clientWidth,
        height: box.clientHeight,
        margin: { l: 10, r: 14, t: 34, b: 10 },
        font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: colour("ink") },
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
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
