package table

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTableIsAligned(t *testing.T) {
	table := New("name", "µs:")
	table.Row("petrel", "0.5")
	table.Row("a", "1,234")
	table.Row("none")
	want := strings.Join([]string{
		"| name   |    µs |",
		"| ------ | ----: |",
		"| petrel |   0.5 |",
		"| a      | 1,234 |",
		"| none   |       |",
		"",
	}, "\n")
	require.Equal(t, want, table.String())
}

func TestTableWithoutRowsIsNothing(t *testing.T) {
	require.Empty(t, New("name").String())
}

func TestFigureHasThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.012345: "0.0123", 0.5: "0.500", 1: "1.00", 12.345: "12.3", 99.96: "100.0", 123.4: "123", 1234.5: "1,234",
		12345678: "12,345,678", -1234: "-1,234", -0.5: "-0.500",
	} {
		require.Equal(t, want, Figure(v), "%v", v)
	}
}

func TestCountHasThousandsApart(t *testing.T) {
	require.Equal(t, "7", Count(7))
	require.Equal(t, "1,000,000", Count(1_000_000))
	require.Equal(t, "-100", Count(-100))
}
