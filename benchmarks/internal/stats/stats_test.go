package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every value lies in its cell, and cells follow each other without gaps.
func TestCellsAreInOrder(t *testing.T) {
	for i := 1; i < cells; i++ {
		least := upper(i-1) + 1
		require.Equal(t, i, cell(least), "the least value of cell %d", i)
		require.Equal(t, i, cell(upper(i)), "the largest value of cell %d", i)
	}
	require.Equal(t, cells-1, cell(math.MaxInt64))
}

func TestPercentilesAreNearTheSortedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	values := make([]int64, 100_000)
	for i := range values {
		values[i] = int64(math.Exp(random.Float64() * 20)) // from nothing to half a second
		h.Record(values[i])
	}
	slices.Sort(values)
	for _, p := range []float64{0.1, 1, 50, 90, 99, 99.9, 100} {
		exact := values[int(math.Ceil(p/100*float64(len(values))))-1]
		got := h.Percentile(p)
		require.GreaterOrEqual(t, got, exact, "p%v", p)
		require.LessOrEqual(t, float64(got), float64(exact)*(1+1.0/64)+1, "p%v", p)
	}
	require.EqualValues(t, len(values), h.Total())
}

func TestPercentileOfFewValues(t *testing.T) {
	var h Histogram
	require.Zero(t, h.Percentile(50), "no values")
	h.Record(-5)
	require.Zero(t, h.Percentile(100), "a negative value counts as 0")
	h.Record(40)
	h.Record(50)
	require.EqualValues(t, 40, h.Percentile(50))
	require.EqualValues(t, 50, h.Percentile(99.9))
	h.Reset()
	require.Zero(t, h.Percentile(99.9))
}

func TestRecordDoesNotAllocate(t *testing.T) {
	var h Histogram
	require.Zero(t, testing.AllocsPerRun(100, func() { h.Record(12345) }))
}

func TestMedian(t *testing.T) {
	require.Zero(t, Median(nil))
	require.Equal(t, 7.0, Median([]float64{7}))
	require.Equal(t, 2.0, Median([]float64{3, 1, 2}))
	values := []float64{4, 1, 3, 2}
	require.Equal(t, 2.5, Median(values))
	require.Equal(t, []float64{4, 1, 3, 2}, values, "the values stay in their order")
}
