// Package plot draws curves as SVG, on axes that are both logarithmic.
package plot

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Point is one measured value; both numbers are above 0.
type Point struct{ X, Y float64 }

// Series is one curve. Its points are in the order of X.
type Series struct {
	Name   string
	Points []Point
}

// Chart is a picture.
type Chart struct {
	Title, X, Y string
	Series      []Series
}

// The picture in pixels; the margins hold the labels.
const (
	width, height            = 760, 440
	left, right, top, bottom = 70, 120, 50, 60
)

// The colours are told apart by most people who see few colours.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#7f7f7f", "#cc79a7"}

// SVG draws the chart.
func (c *Chart) SVG() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%d" y="28" font-size="16" font-weight="bold">%s</text>`+"\n", left, html.EscapeString(c.Title))
	xs, ys := c.scales()
	for _, v := range xs.ticks() {
		x := left + xs.at(v)*(width-left-right)
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#e5e5e5"/>`+"\n", x, top, height-bottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, height-bottom+20, short(v))
	}
	for _, v := range ys.ticks() {
		y := yPixel(ys, v)
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#e5e5e5"/>`+"\n", left, y, width-right)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left-8, y+4, short(v))
	}
	fmt.Fprintf(&b, `<path d="M%d %d V%d H%d" fill="none" stroke="black"/>`+"\n", left, top, height-bottom, width-right)
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", left+(width-left-right)/2, height-15, html.EscapeString(c.X))
	middle := top + (height-top-bottom)/2
	fmt.Fprintf(&b, `<text x="18" y="%d" text-anchor="middle" transform="rotate(-90 18 %d)">%s</text>`+"\n", middle, middle, html.EscapeString(c.Y))
	c.curves(&b, xs, ys)
	b.WriteString("</svg>\n")
	return b.String()
}

// curves draws the lines, each with its name at its end.
func (c *Chart) curves(b *strings.Builder, xs, ys scale) {
	type label struct {
		y      float64
		series int
	}
	var labels []label
	for i, s := range c.Series {
		if len(s.Points) == 0 {
			continue
		}
		colour := colours[i%len(colours)]
		var path strings.Builder
		for k, p := range s.Points {
			x, y := left+xs.at(p.X)*(width-left-right), yPixel(ys, p.Y)
			fmt.Fprintf(&path, "%c%.1f %.1f ", "ML"[min(k, 1)], x, y)
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x, y, colour)
		}
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.TrimSpace(path.String()), colour)
		labels = append(labels, label{yPixel(ys, s.Points[len(s.Points)-1].Y), i})
	}
	slices.SortFunc(labels, func(a, b label) int { return int(math.Copysign(1, a.y-b.y)) })
	const apart = 16 // pixels between two names
	free := 0.0
	for _, l := range labels {
		y := max(l.y, free)
		free = y + apart
		fmt.Fprintf(b, `<text x="%d" y="%.1f" fill="%s">%s</text>`+"\n", width-right+8, y+4,
			colours[l.series%len(colours)], html.EscapeString(c.Series[l.series].Name))
	}
}

func yPixel(s scale, v float64) float64 { return height - bottom - s.at(v)*(height-top-bottom) }

// scale is a logarithmic axis.
type scale struct{ low, high float64 }

// scales finds the axes: exactly the values for X, round numbers for Y.
func (c *Chart) scales() (x, y scale) {
	x, y = scale{math.Inf(1), 0}, scale{math.Inf(1), 0}
	for _, s := range c.Series {
		for _, p := range s.Points {
			x.low, x.high = min(x.low, p.X), max(x.high, p.X)
			y.low, y.high = min(y.low, p.Y), max(y.high, p.Y)
		}
	}
	if x.high == 0 {
		return scale{1, 10}, scale{1, 10}
	}
	if x.low == x.high {
		x.high *= 10
	}
	return x, scale{round(y.low, -1), round(y.high*1.001, 1)}
}

// at is where a value lies on the axis, from 0 to 1.
func (s scale) at(v float64) float64 {
	return math.Log(v/s.low) / math.Log(s.high/s.low)
}

// ticks are 1, 2 and 5 times the powers of ten, and only the powers where they are
// many.
func (s scale) ticks() (values []float64) {
	steps := []float64{1, 2, 5}
	if s.high/s.low > 2000 {
		steps = steps[:1]
	}
	for power := math.Floor(math.Log10(s.low)); math.Pow(10, power) <= s.high*1.001; power++ {
		for _, step := range steps {
			if v := step * math.Pow(10, power); v >= s.low*0.999 && v <= s.high*1.001 {
				values = append(values, v)
			}
		}
	}
	return values
}

// round is the next number below or above that is 1, 2 or 5 times a power of ten.
func round(v, direction float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	if direction < 0 {
		for _, step := range []float64{5, 2} {
			if step*power <= v {
				return step * power
			}
		}
		return power
	}
	for _, step := range []float64{1, 2, 5} {
		if step*power >= v {
			return step * power
		}
	}
	return 10 * power
}

// short writes a number of an axis.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%gk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%d,%03d", int(v)/1000, int(v)%1000)
	}
	return fmt.Sprintf("%.3g", v)
}
