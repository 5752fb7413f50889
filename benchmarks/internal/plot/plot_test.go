package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func wellFormed(t *testing.T, svg string) {
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else {
			require.NoError(t, err, svg)
		}
	}
}

func TestChartShowsEverySeries(t *testing.T) {
	c := Chart{Title: "a < b & c", X: "n", Y: "µs", Series: []Series{
		{"petrel", []Point{{1, 0.3}, {10, 0.5}, {1000, 2}}},
		{"mochi", []Point{{1, 5}, {1000, 50}}},
		{"nobody", nil},
	}}
	svg := c.SVG()
	wellFormed(t, svg)
	require.Contains(t, svg, "a &lt; b &amp; c")
	require.Contains(t, svg, ">petrel</text>")
	require.Contains(t, svg, ">mochi</text>")
	require.NotContains(t, svg, "nobody")
	require.Equal(t, 5, strings.Count(svg, "<circle"))
	require.NotContains(t, svg, "NaN")
	require.NotContains(t, svg, "Inf")
	for _, label := range []string{"1", "10", "100", "1,000"} {
		require.Contains(t, svg, ">"+label+"</text>")
	}
}

func TestSmallerValuesAreFurtherDown(t *testing.T) {
	svg := (&Chart{Series: []Series{{"s", []Point{{1, 1}, {10, 100}}}}}).SVG()
	at := regexp.MustCompile(`<circle cx="([\d.]+)" cy="([\d.]+)"`).FindAllStringSubmatch(svg, -1)
	require.Len(t, at, 2)
	require.Equal(t, []string{"70.0", "380.0"}, at[0][1:], "the least values are in the corner")
	require.Equal(t, "640.0", at[1][1])
}

func TestChartWithoutPointsAndWithOne(t *testing.T) {
	for _, c := range []Chart{{}, {Series: []Series{{"one", []Point{{3, 7}}}}}} {
		svg := c.SVG()
		wellFormed(t, svg)
		require.NotContains(t, svg, "NaN")
	}
}

func TestAxesHaveRoundNumbers(t *testing.T) {
	require.Equal(t, []float64{100, 200, 500, 1000}, scale{100, 1500}.ticks())
	require.Equal(t, []float64{1, 10, 100, 1000, 10_000}, scale{1, 12_000}.ticks())
	require.Equal(t, 0.2, round(0.3, -1))
	require.Equal(t, 5.0, round(9.9, -1))
	require.Equal(t, 0.5, round(0.3, 1))
	require.Equal(t, 10.0, round(7, 1))
	for v, want := range map[float64]string{0.05: "0.05", 2: "2", 500: "500", 5000: "5,000", 20_000: "20k", 1e6: "1M"} {
		require.Equal(t, want, short(v))
	}
}
