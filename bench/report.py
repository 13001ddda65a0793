"""Prints tables; writes JSON and SVG files to bench/results."""

import json
import os
import shutil
import subprocess

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
COLOURS = {"floor": "#9e9e9e", "floor again": "#c8c8c8",
           "forwarder": "#1f77b4", "naive": "#e0a030", "qemu-hub": "#c44e52",
           "direct": "#9e9e9e", "without": "#c44e52"}


ARROWS = {"up": "guest → network", "down": "network → guest",
          "both": "both ways", "rtt": "round trip"}


def label(size, direction):
    return f"{size} B {ARROWS[direction]}"


def table(title, head, rows):
    """Prints a table: names left-aligned, figures right-aligned."""
    lines = [head] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print(f"\n{title}")
    for number, line in enumerate(lines):
        cells = [cell.ljust(width) if i < 1 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        print("  " + "  ".join(cells).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def ratio(figure):
    """A ratio and the error of its median."""
    off = max(figure["high"] - figure["median"],
              figure["median"] - figure["low"])
    return f"{figure['median']:.3f} ±{off:.3f}"


def verdict(figure, goal, more_is_better):
    """Whether the goal is reached, and whether the error leaves it open."""
    value, low, high = figure["median"], figure["low"], figure["high"]
    word = "missed"
    if value >= goal if more_is_better else value <= goal:
        word = "reached"
    doubt = " (within the error)" if low <= goal <= high else ""
    return f"{word}: {value:.3f}, goal {goal}{doubt}"


def save(name, data):
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name + ".json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    print(f"\n  written: {os.path.relpath(path)}")


def gnuplot(name, script):
    if not shutil.which("gnuplot"):
        print("  gnuplot is missing: no plot")
        return
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, name + ".svg")
    head = (f"set terminal svg size 900,420 font 'sans,12' background 'white'\n"
            f"set output '{path}'\nset border 3\nset tics nomirror\n"
            "set grid ytics lc rgb '#dddddd'\nset key top right\n")
    subprocess.run(["gnuplot"], input=head + script, text=True, check=True)
    print(f"  written: {os.path.relpath(path)}")


def bars(name, title, ylabel, groups, series, line=1.0):
    """Plots groups of bars; series: {name: [{median, low, high}, ...]}."""
    text = (f"set title '{title}'\nset ylabel '{ylabel}'\n"
            "set style data histogram\nset yrange [0:*]\n"
            "set style histogram errorbars gap 1 lw 1\n"
            "set style fill solid 0.9 border -1\nset key outside right\n"
            "set xtics rotate by 35 right\n")
    blocks = []
    for number, (who, figures) in enumerate(series.items()):
        text += f"$d{number} << EOD\n"
        text += "".join(
            f"\"{group}\" {f['median']} {f['low']} {f['high']}\n"
            for group, f in zip(groups, figures))
        text += "EOD\n"
        blocks.append(f"$d{number} using 2:3:4:xtic(1) title '{who}' "
                      f"lc rgb '{COLOURS.get(who, '#55a868')}'")
    blocks.append(f"{line} notitle with lines lc rgb '#333333' dt 2")
    gnuplot(name, text + "plot " + ", \\\n ".join(blocks) + "\n")


def cumulative(name, title, xlabel, series):
    """Plots which share of the rounds took at most x."""
    text = (f"set title '{title}'\nset xlabel '{xlabel}'\nset logscale x\n"
            "set ylabel 'share of the rounds'\nset yrange [0:1]\n"
            "set key bottom right\n")
    blocks = []
    for number, (who, values) in enumerate(series.items()):
        ordered = sorted(values)
        text += f"$d{number} << EOD\n"
        text += "".join(f"{value} {(i + 1) / len(ordered)}\n"
                        for i, value in enumerate(ordered))
        text += "EOD\n"
        blocks.append(f"$d{number} with steps lw 2 title '{who}'")
    gnuplot(name, text + "plot " + ", ".join(blocks) + "\n")


def curves(name, xlabel, values, panels):
    """Plots panels side by side: [(title, {name: [{median, low, high}, ...]})]
    with a figure for each of `values`."""
    text = (f"set multiplot layout 1,{len(panels)}\nset xlabel '{xlabel}'\n"
            "set yrange [0:*]\nset xtics rotate by 45 right\n"
            f"set xrange [-0.5:{len(values) - 0.5}]\nset key top left\n")
    for number, (title, series) in enumerate(panels):
        blocks = []
        for other, (who, figures) in enumerate(series.items()):
            block = f"$d{number}_{other}"
            text += f"{block} << EOD\n"
            text += "".join(f"{value} {f['median']} {f['low']} {f['high']}\n"
                            for value, f in zip(values, figures))
            text += "EOD\n"
            blocks.append(f"{block} using 0:2:3:4:xtic(1) with yerrorlines "
                          f"pt 7 ps 0.5 title '{who}'")
        text += f"set title '{title}'\nplot " + ", ".join(blocks) + "\n"
    gnuplot(name, text)
