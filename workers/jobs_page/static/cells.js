/* How numbers, times and states of jobs are written, and the cells that tables are made of. */
(function () {
    "use strict";

    const {make, setText} = docmill;
    const MISSING = "—"; // as Flower writes what is not known
    const numbers = new Intl.NumberFormat("en");

    function number(value) {
        return value === null || value === undefined ? MISSING : numbers.format(value);
    }

    function rate(value) {
        if (value === null) {
            return MISSING;
        }
        return value >= 100 ? numbers.format(Math.round(value)) : value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
    }

    /* In the currency of the prices, whichever that is; small sums keep two digits that say something. */
    function money(value) {
        if (value === null) {
            return MISSING;
        }
        return value === 0 || value >= 1 ? value.toFixed(2) : value.toPrecision(2);
    }

    function percent(value) {
        return value === null ? MISSING : (100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0) + " %";
    }

    /* Seconds in the two largest units, as Flower writes durations. */
    function duration(seconds) {
        if (seconds === null) {
            return MISSING;
        }
        if (seconds < 1) {
            return Math.round(seconds * 1000) + " ms";
        }
        if (seconds < 10) {
            return seconds.toFixed(1) + " s";
        }
        const whole = Math.round(seconds), units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
        const first = units.findIndex(([size]) => whole >= size);
        const [size, name] = units[first];
        const rest = units[first + 1];
        if (!rest) {
            return whole + " s";
        }
        return Math.floor(whole / size) + name + " " + String(Math.floor((whole % size) / rest[0])).padStart(2, "0") + rest[1];
    }

    /* One unit is enough to say how old something is. */
    function age(seconds) {
        const units = [[86400, " d"], [3600, " h"], [60, " min"], [1, " s"]];
        const [size, name] = units.find(([unit]) => seconds >= unit) || [1, " s"];
        return Math.floor(seconds / size) + name;
    }

    const STATES = {
        enqueuing: ["task-state-started", "enqueuing"],
        running: ["task-state-started", "running"],
        cancelling: ["text-bg-warning", "cancelling"],
        succeeded: ["text-bg-success", "succeeded"],
        succeeded_with_failures: ["text-bg-warning", "with failures"],
        failed: ["text-bg-danger", "failed"],
        cancelled: ["text-bg-secondary", "cancelled"],
        // of batches
        pending: ["text-bg-secondary", "pending"],
        waiting: ["text-bg-secondary", "waiting"],
        retrying: ["text-bg-warning", "retrying"],
        transformed: ["task-state-started", "transformed"],
        committed: ["text-bg-success", "committed"],
        halved: ["text-bg-warning", "halved"],
    };

    function badge(place, state, isPaused) {
        const [kind, word] = STATES[state] || ["text-bg-secondary", state];
        const wanted = [[kind, word]].concat(isPaused ? [["text-bg-secondary", "paused"]] : []);
        while (place.children.length > wanted.length) {
            place.lastChild.remove();
        }
        wanted.forEach(function ([className, text], index) {
            const shown = place.children[index] || place.appendChild(make("span"));
            shown.className = "badge " + className;
            setText(shown, text);
        });
    }

    /* A progress bar in `place`, made once. */
    function progress(place, done, total, label, state) {
        let bar = place.querySelector(".progress-bar");
        if (!bar) {
            const track = place.appendChild(make("div", "progress jobs-progress"));
            track.setAttribute("role", "progressbar");
            track.setAttribute("aria-valuemin", "0");
            bar = track.appendChild(make("div", "progress-bar"));
        }
        const track = bar.parentElement;
        track.setAttribute("aria-label", label);
        track.setAttribute("aria-valuemax", String(total));
        track.setAttribute("aria-valuenow", String(done));
        track.setAttribute("aria-valuetext", number(done) + " of " + number(total) + " batches");
        bar.style.width = (total ? 100 * done / total : 0) + "%";
        bar.classList.toggle("bg-danger", state === "failed");
        bar.classList.toggle("bg-secondary", state === "cancelled");
    }

    /* A cell with a text, and with what is missing in the colour of that. */
    function text(of, className) {
        return {
            className: className,
            write: function (cell, item) {
                const value = of(item);
                setText(cell, value);
                cell.classList.toggle("value-missing", value === MISSING);
            },
        };
    }

    docmill.write = {number, rate, percent, duration, age, money};
    docmill.cells = {MISSING, badge, progress, text};
}());
