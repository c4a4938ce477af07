/* Draws throughput as bars, and says in words what they show. */
(function () {
    "use strict";

    const {setText} = docmill;
    const {duration, rate} = docmill.write;
    const NAMESPACE = "http://www.w3.org/2000/svg";
    const HEIGHT = 190, LEFT = 44, BOTTOM = 22, TOP = 8;

    function draw(parent, tag, attributes, text) {
        const element = parent.appendChild(document.createElementNS(NAMESPACE, tag));
        Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
        element.textContent = text === undefined ? "" : text;
        return element;
    }

    /* The least of 1, 2, 5, 10, … that is not below the value. */
    function ceiling(value) {
        const power = Math.pow(10, Math.floor(Math.log10(value)));
        return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
    }

    function bars(place, found) {
        const speeds = found.documents.map((count) => count / found.width);
        const most = Math.max(...speeds), top = most > 0 ? ceiling(most) : 1;
        const width = Math.max(200, place.clientWidth), inner = width - LEFT, high = HEIGHT - BOTTOM - TOP;
        const svg = document.createElementNS(NAMESPACE, "svg");
        svg.setAttribute("viewBox", "0 0 " + width + " " + HEIGHT);
        svg.setAttribute("aria-hidden", "true"); // the words below say it
        [0, 0.5, 1].forEach(function (share) {
            const y = TOP + high * (1 - share);
            draw(svg, "line", {x1: LEFT, x2: width, y1: y, y2: y, class: "job-chart-line"});
            draw(svg, "text", {x: LEFT - 6, y: y + 4, "text-anchor": "end"}, rate(top * share));
        });
        const step = inner / speeds.length;
        speeds.forEach(function (speed, index) {
            const tall = high * speed / top;
            const bar = draw(svg, "rect", {
                x: LEFT + index * step + Math.min(1, step / 8),
                y: TOP + high - tall,
                width: Math.min(48, Math.max(1, step - Math.min(2, step / 4))),
                height: tall,
                class: "job-chart-bar",
            });
            draw(bar, "title", {}, rate(speed) + " documents a second after " + duration(index * found.width));
        });
        const whole = speeds.length * found.width;
        [[0, "start"], [0.5, "middle"], [1, "end"]].forEach(function ([share, anchor]) {
            const label = share ? duration(whole * share) : "0";
            draw(svg, "text", {x: LEFT + inner * share, y: HEIGHT - 5, "text-anchor": anchor}, label);
        });
        place.replaceChildren(svg);
    }

    function words(found) {
        const total = found.documents.reduce((sum, count) => sum + count, 0);
        if (!total) {
            return "No batch has ended.";
        }
        const speeds = found.documents.map((count) => count / found.width);
        const most = Math.max(...speeds), when = speeds.indexOf(most) * found.width;
        return "In steps of " + duration(found.width) + ": at most " + rate(most) + " documents a second, " +
            (when ? "after " + duration(when) : "at the beginning") + "; on average " +
            rate(total / (speeds.length * found.width)) + ".";
    }

    /* A function that shows the throughput in a place, drawn again only when it or the place has changed. */
    docmill.chart = function (place, text) {
        let drawn = "", found = null;

        function show() {
            const wanted = JSON.stringify([found, place.clientWidth]);
            if (found && place.clientWidth && drawn !== wanted) {
                drawn = wanted;
                bars(place, found);
                setText(text, words(found));
            }
        }

        new ResizeObserver(show).observe(place);
        return function (throughput) {
            found = throughput;
            show();
        };
    };
}());
