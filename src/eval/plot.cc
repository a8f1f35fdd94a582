#include "eval/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/error.h"
#include "eval/svg.h"

namespace kvmerger::eval {
namespace {

using Anchor = Svg::Anchor;

constexpr double kWidth = 360, kHeight = 250;                    // of a panel
constexpr double kLeft = 70, kTop = 60, kGap = 80, kBelow = 50;  // around it
constexpr double kLegend = 40;                                   // from the right panel to the legend
constexpr double kLineHeight = 18, kLetter = 7;
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                    "#000000", "#E69F00", "#56B4E9", "#882255"};
constexpr size_t kColourCount = std::size(kColours);
constexpr const char* kDashes[] = {"", " stroke-dasharray=\"6 3\"", " stroke-dasharray=\"2 2\""};

// From a measure to a place in the picture.
struct Axis {
  enum class Scale { kLinear, kLog, kSigned } scale;  // kSigned: logarithmic on both sides of a linear middle
  double low, high;                                   // of what is measured
  double from, to;                                    // in the picture

  double warped(double value) const {
    constexpr double kMiddle = 0.03;
    if (scale == Scale::kLog) return std::log10(value);
    return scale == Scale::kSigned ? std::asinh(value / kMiddle) : value;
  }
  double place(double value) const {
    const double bounded = std::clamp(value, low, high);
    return from + (to - from) * (warped(bounded) - warped(low)) / (warped(high) - warped(low));
  }
  bool holds(double value) const { return low <= value && value <= high; }
};

struct Dot {
  double share;
  Mean measure;
};
struct Line {
  std::string method;
  std::vector<Dot> dots;  // by share
};

// A kind of panel: what it shows, and how.
struct Measure {
  const char* name;
  Mean Summary::* field;
  Axis::Scale scale;
};
constexpr Measure kMeasures[] = {
    {"KL to the full cache, nats per token", &Summary::kl, Axis::Scale::kLog},
    {"extra NLL of recalled passages, nats per token", &Summary::recall_dnll, Axis::Scale::kSigned},
};

// Methods that differ in more than their name are told apart; the full cache is not drawn.
std::string label(const Summary& summary) {
  return summary.key.method == spec_text(summary.key.spec) || summary.key.method == summary.key.spec.policy
             ? summary.key.method
             : cat(summary.key.method, " (", spec_text(summary.key.spec), ")");
}

bool drawn(const Summary& summary) { return !summary.key.spec.budget.empty(); }

std::vector<std::string> labels(const std::vector<Section>& sections) {
  std::vector<std::string> all;
  for (const Section& section : sections) {
    for (const Summary& summary : section.summaries) {
      if (drawn(summary) && std::ranges::find(all, label(summary)) == all.end()) all.push_back(label(summary));
    }
  }
  return all;
}

std::vector<Line> lines(const Section& section, const std::vector<std::string>& labels, Mean Summary::* field) {
  std::vector<Line> lines;
  for (const std::string& name : labels) {
    lines.push_back({name, {}});
    for (const Summary& summary : section.summaries) {
      if (!drawn(summary) || label(summary) != name || !std::isfinite((summary.*field).mean)) continue;
      lines.back().dots.push_back({summary.rows_share.mean, summary.*field});
    }
    std::ranges::sort(lines.back().dots, {}, &Dot::share);
  }
  return lines;
}

double error(const Mean& mean) { return std::isfinite(mean.error) ? mean.error : 0.0; }

// Round bounds around everything drawn.
Axis value_axis(const std::vector<Line>& lines, Axis::Scale scale, double top) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Line& line : lines) {
    for (const Dot& dot : line.dots) {
      high = std::max(high, dot.measure.mean + error(dot.measure));
      if (scale != Axis::Scale::kLog || dot.measure.mean > 0) low = std::min(low, dot.measure.mean);
    }
  }
  if (scale == Axis::Scale::kLog) {
    constexpr double kLeast = 1e-7, kRoom = 1.25;
    low = std::isfinite(low) ? std::max(low / kRoom, kLeast) : kLeast;
    return {scale, low, std::max(high * kRoom, 10 * low), top + kHeight, top};
  }
  low = std::min(low, 0.0);
  return {scale, std::min(low * 1.3, -0.02), std::max(high * 1.3, 0.1), top + kHeight, top};
}

Axis share_axis(const std::vector<Line>& lines, double left) {
  double high = 0.1;
  for (const Line& line : lines) {
    for (const Dot& dot : line.dots) high = std::max(high, dot.share);
  }
  return {Axis::Scale::kLinear, 0, std::min(1.02, std::ceil(high * 10 - 0.01) / 10 + 0.02), left, left + kWidth};
}

std::vector<double> ticks(const Axis& axis) {
  std::vector<double> values;
  if (axis.scale == Axis::Scale::kLinear) {
    for (int tenth = 0; tenth <= 10; ++tenth) values.push_back(tenth / 10.0);
  } else {
    for (int exponent = -7; exponent <= 3; ++exponent) {
      for (const double digit : {1.0, 3.0}) values.push_back(digit * std::pow(10, exponent));
    }
  }
  if (axis.scale == Axis::Scale::kSigned) {
    std::erase_if(values, [](double value) { return value < 0.02; });
    for (size_t index = values.size(); index-- > 0;) values.push_back(-values[index]);
    values.push_back(0);
  }
  std::erase_if(values, [&](double value) { return !axis.holds(value); });
  return values;
}

std::string tick_text(double value) {
  std::string text(32, ' ');
  text.resize(static_cast<size_t>(std::snprintf(text.data(), text.size(), "%.6g", value)));
  return text;
}

void draw_frame(Svg& svg, const Axis& x, const Axis& y, const char* name) {
  constexpr const char* kGrid = "stroke=\"#dddddd\"";
  for (const double value : ticks(y)) {
    const double at = y.place(value);
    svg.line({x.from, at}, {x.to, at}, value == 0 ? "stroke=\"#888888\"" : kGrid);
    svg.text({x.from - 6, at + 4}, tick_text(value), Anchor::kEnd);
  }
  for (const double value : ticks(x)) {
    svg.line({x.place(value), y.from}, {x.place(value), y.to}, kGrid);
    svg.text({x.place(value), y.from + 16}, tick_text(100 * value) + "%", Anchor::kMiddle);
  }
  svg.line({x.from, y.from}, {x.to, y.from}, "stroke=\"black\"");
  svg.line({x.from, y.from}, {x.from, y.to}, "stroke=\"black\"");
  svg.text({(x.from + x.to) / 2, y.from + 34}, "rows kept", Anchor::kMiddle);
  svg.text({x.from, y.to - 8}, name);
}

std::string colour(size_t index) { return kColours[index % kColourCount]; }

std::string stroke(size_t index) {
  return cat("stroke=\"", colour(index), "\" stroke-width=\"1.8\"",
             kDashes[std::min(index / kColourCount, std::size(kDashes) - 1)]);
}

// The shape changes with the colour, and again when the colours begin anew.
void draw_mark(Svg& svg, size_t index, Point at) {
  constexpr double kSize = 4;
  const std::string style = cat("fill=\"", colour(index), "\"");
  const auto shape = [&](std::initializer_list<Point> corners) {
    std::vector<Point> points;
    for (const Point& corner : corners) points.push_back({at.x + kSize * corner.x, at.y + kSize * corner.y});
    svg.polygon(points, style);
  };
  switch ((index + index / kColourCount) % 4) {
    case 0:
      return svg.circle(at, kSize, style);
    case 1:
      return shape({{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}});
    case 2:
      return shape({{0, -1.2}, {1.1, 0.9}, {-1.1, 0.9}});
    default:
      return shape({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}});
  }
}

void draw_line(Svg& svg, const Axis& x, const Axis& y, size_t index, const Line& line) {
  std::vector<Point> points;
  for (const Dot& dot : line.dots) {
    points.push_back({x.place(dot.share), y.place(dot.measure.mean)});
    if (error(dot.measure) == 0) continue;
    svg.line({points.back().x, y.place(dot.measure.mean - error(dot.measure))},
             {points.back().x, y.place(dot.measure.mean + error(dot.measure))}, cat("stroke=\"", colour(index), "\""));
  }
  if (points.size() > 1) svg.polyline(points, stroke(index));
  for (const Point& point : points) draw_mark(svg, index, point);
}

void draw_panel(Svg& svg, const Section& section, const std::vector<std::string>& labels, const Measure& measure,
                Point corner) {
  const std::vector<Line> all = lines(section, labels, measure.field);
  const Axis x = share_axis(all, corner.x), y = value_axis(all, measure.scale, corner.y);
  draw_frame(svg, x, y, measure.name);
  for (size_t index = 0; index < all.size(); ++index) draw_line(svg, x, y, index, all[index]);
}

void draw_legend(Svg& svg, const std::vector<std::string>& labels, Point corner) {
  for (size_t index = 0; index < labels.size(); ++index) {
    const double y = corner.y + kLineHeight * static_cast<double>(index);
    svg.line({corner.x, y}, {corner.x + 28, y}, stroke(index));
    draw_mark(svg, index, {corner.x + 14, y});
    svg.text({corner.x + 36, y + 4}, labels[index]);
  }
}

}  // namespace

std::string plot_svg(const std::vector<Section>& sections) {
  const std::vector<std::string> all = labels(sections);
  const double right = kLeft + 2 * kWidth + kGap + kLegend, step = kTop + kHeight + kBelow;
  Svg svg;
  size_t letters = 0;
  for (const std::string& name : all) letters = std::max(letters, name.size());
  for (size_t row = 0; row < sections.size(); ++row) {
    const double top = step * static_cast<double>(row) + kTop;
    svg.text({kLeft, top - 34}, title(sections[row]), Anchor::kStart, "font-size=\"15\" font-weight=\"bold\"");
    for (size_t column = 0; column < std::size(kMeasures); ++column) {
      draw_panel(svg, sections[row], all, kMeasures[column],
                 {kLeft + static_cast<double>(column) * (kWidth + kGap), top});
    }
  }
  draw_legend(svg, all, {right, kTop + 10});
  const double rows = step * static_cast<double>(sections.size());
  const double legend = kTop + kLineHeight * static_cast<double>(all.size() + 1);
  return svg.file(right + 50 + kLetter * static_cast<double>(letters), std::max(rows, legend));
}

}  // namespace kvmerger::eval
