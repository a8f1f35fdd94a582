// Elements of an SVG file: lines, text, marks.
#pragma once

#include <span>
#include <string>

namespace kvmerger::eval {

struct Point {
  double x, y;
};

class Svg {
 public:
  enum class Anchor { kStart, kMiddle, kEnd };

  void line(Point from, Point to, const std::string& style);
  void polyline(std::span<const Point> points, const std::string& style);
  void polygon(std::span<const Point> points, const std::string& style);
  void circle(Point centre, double radius, const std::string& style);
  void text(Point at, const std::string& text, Anchor anchor = Anchor::kStart, const std::string& more = "");
  // The whole file, on white.
  std::string file(double width, double height) const;

 private:
  std::string body_;
};

std::string escape_xml(const std::string& text);

}  // namespace kvmerger::eval
