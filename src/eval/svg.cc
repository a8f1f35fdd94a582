#include "eval/svg.h"

#include <array>
#include <cstdio>

#include "core/error.h"

namespace kvmerger::eval {
namespace {

std::string number(double value) {
  std::array<char, 400> text;
  std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}

std::string list(std::span<const Point> points) {
  std::string text;
  for (const Point& point : points) text += cat(text.empty() ? "" : " ", number(point.x), ",", number(point.y));
  return text;
}

}  // namespace

std::string escape_xml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return out;
}

void Svg::line(Point from, Point to, const std::string& style) {
  body_ += cat("<line x1=\"", number(from.x), "\" y1=\"", number(from.y), "\" x2=\"", number(to.x), "\" y2=\"",
               number(to.y), "\" ", style, "/>\n");
}

void Svg::polyline(std::span<const Point> points, const std::string& style) {
  body_ += cat("<polyline points=\"", list(points), "\" fill=\"none\" ", style, "/>\n");
}

void Svg::polygon(std::span<const Point> points, const std::string& style) {
  body_ += cat("<polygon points=\"", list(points), "\" ", style, "/>\n");
}

void Svg::circle(Point centre, double radius, const std::string& style) {
  body_ += cat("<circle cx=\"", number(centre.x), "\" cy=\"", number(centre.y), "\" r=\"", number(radius), "\" ", style,
               "/>\n");
}

void Svg::text(Point at, const std::string& text, Anchor anchor, const std::string& more) {
  constexpr const char* kAnchors[] = {"start", "middle", "end"};
  body_ +=
      cat("<text x=\"", number(at.x), "\" y=\"", number(at.y), "\" text-anchor=\"", kAnchors[static_cast<int>(anchor)],
          "\"", more.empty() ? "" : " ", more, ">", escape_xml(text), "</text>\n");
}

std::string Svg::file(double width, double height) const {
  const std::string w = number(width), h = number(height);
  return cat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", w,
             "\" height=\"", h, "\" viewBox=\"0 0 ", w, " ", h, "\" font-family=\"sans-serif\" font-size=\"12\">\n",
             "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n", body_, "</svg>\n");
}

}  // namespace kvmerger::eval
