/* The list of jobs: what is filtered, sorted and paged stands in the address, so that it can be shared. */
(function () {
    "use strict";

    const {announce, fillRows, get, live, make, pager, setText} = docmill;
    const {badge, progress, text} = docmill.cells;
    const {age, duration, money, number, percent, rate} = docmill.write;

    const page = document.getElementById("jobs-page");
    const body = document.getElementById("jobs-body");
    const message = document.getElementById("jobs-message");
    const search = document.getElementById("job-search");
    const size = document.getElementById("jobs-size");
    const filters = Array.from(document.querySelectorAll("#job-states [data-state]"));
    const sorters = Array.from(document.querySelectorAll("[data-sort]"));

    const DEFAULTS = {state: "all", text: "", sort: "created", order: "desc", page: 0, size: 25};
    const asked = Object.assign({}, DEFAULTS, Object.fromEntries(new URLSearchParams(window.location.search)));
    asked.page = Number(asked.page) || 0;
    asked.size = Number(asked.size) || DEFAULTS.size;
    let isChanged = false; // by the reader, who is told what came of it
    let hasOpen = true;
    let typing = 0; // the timer that waits for a pause

    function jobUrl(id) {
        return page.dataset.jobUrl.replace(/0{12}$/, id);
    }

    function name(cell, job) {
        let link = cell.querySelector("a");
        if (!link) {
            link = cell.appendChild(make("a"));
            cell.appendChild(make("code", "job-id"));
        }
        link.href = jobUrl(job.id);
        setText(link, job.collection);
        setText(cell.lastChild, job.id);
    }

    function batches(cell, job) {
        if (!cell.firstChild) {
            cell.appendChild(make("span", "jobs-batches"));
        }
        setText(cell.firstChild, number(job.batches_done) + " / " + number(job.batches_total));
        progress(cell, job.batches_done, job.batches_total, "Batches of " + job.collection + " done", job.state);
    }

    const CELLS = [
        {isHeader: true, className: "jobs-name", write: name},
        {write: (cell, job) => badge(cell, job.state, job.paused), className: "job-states"},
        {write: batches},
        text((job) => number(job.documents.new), "jobs-number jobs-tertiary"),
        text((job) => number(job.documents.changed), "jobs-number jobs-secondary"),
        text((job) => number(job.documents.unchanged), "jobs-number jobs-secondary"),
        text((job) => number(job.documents.deleted), "jobs-number jobs-secondary"),
        {
            className: "jobs-number",
            write: function (cell, job) {
                setText(cell, number(job.documents.failed));
                cell.classList.toggle("jobs-bad", job.documents.failed > 0);
            },
        },
        text((job) => number(job.nodes), "jobs-number jobs-secondary"),
        text((job) => number(job.tokens), "jobs-number jobs-secondary"),
        text((job) => money(job.cost), "jobs-number jobs-secondary"),
        text((job) => percent(job.cache_hit_rate), "jobs-number jobs-secondary"),
        text((job) => rate(job.documents_per_second), "jobs-number jobs-secondary"),
        text((job) => duration(job.seconds_left), "jobs-number jobs-tertiary"),
        {
            className: "jobs-starter jobs-secondary",
            write: function (cell, job) {
                setText(cell, job.started_by || docmill.cells.MISSING);
                cell.title = job.started_by || "";
            },
        },
        text((job) => age(job.age), "jobs-number"),
    ];

    function showAsked() {
        filters.forEach(function (filter) {
            const isActive = filter.dataset.state === asked.state;
            filter.classList.toggle("active", isActive);
            filter.setAttribute("aria-pressed", String(isActive));
        });
        sorters.forEach(function (sorter) {
            const order = {asc: "ascending", desc: "descending"}[asked.order];
            sorter.closest("th").setAttribute("aria-sort", sorter.dataset.sort === asked.sort ? order : "none");
        });
        size.value = String(asked.size);
        const changed = Object.entries(asked).filter(([key, value]) => value !== DEFAULTS[key]);
        const query = new URLSearchParams(changed).toString();
        window.history.replaceState(null, "", page.dataset.url + (query ? "?" + query : ""));
    }

    function showCounts(states, total) {
        const all = Object.values(states).reduce((sum, count) => sum + count, 0);
        const counts = Object.assign({}, states, {
            all: all,
            active: ["enqueuing", "running", "cancelling"].reduce((sum, state) => sum + (states[state] || 0), 0),
        });
        filters.forEach((filter) => setText(filter.querySelector("[data-count]"), number(counts[filter.dataset.state] || 0)));
        message.hidden = total > 0;
        if (asked.text || asked.state !== "all") {
            setText(message, "No job matches. Clear the search, or choose another state.");
        } else {
            setText(message, "There are no jobs yet: docmill ingest FOLDER makes one.");
        }
        hasOpen = counts.active > 0;
    }

    const showPage = pager("jobs", "jobs", asked, (number) => change({page: number}));

    const lookNow = live(async function () {
        const looked = JSON.stringify(asked);
        const found = await get(page.dataset.url + "/data", asked).catch(function (error) {
            setText(message, "The jobs could not be loaded.");
            throw error;
        });
        if (looked !== JSON.stringify(asked)) {
            return; // the reader wants something else by now
        }
        const last = Math.max(0, Math.ceil(found.total / asked.size) - 1);
        if (asked.page > last) {
            change({page: last});
            return;
        }
        fillRows(body, found.jobs, (job) => job.id, CELLS);
        showCounts(found.states, found.total);
        showPage(found.total);
        if (isChanged) {
            isChanged = false;
            announce(document.getElementById("jobs-range").textContent);
        }
    }, () => hasOpen ? 2000 : 5000);

    /* What was typed counts at once, also when something else is changed before the pause after typing. */
    function change(values) {
        window.clearTimeout(typing);
        Object.assign(asked, {page: 0, text: search.value.trim()}, values);
        isChanged = true;
        showAsked();
        lookNow();
    }

    filters.forEach((filter) => filter.addEventListener("click", () => change({state: filter.dataset.state})));
    sorters.forEach((sorter) => sorter.addEventListener("click", function () {
        const isSame = asked.sort === sorter.dataset.sort;
        change({sort: sorter.dataset.sort, order: isSame && asked.order === "desc" ? "asc" : "desc"});
    }));
    size.addEventListener("change", () => change({size: Number(size.value)}));
    search.addEventListener("input", function () {
        window.clearTimeout(typing);
        typing = window.setTimeout(() => change({}), 300);
    });
    search.value = asked.text;
    showAsked();
}());
