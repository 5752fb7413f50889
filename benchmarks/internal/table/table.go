// Package table writes Markdown tables and figures that fit into them.
package table

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Table has a row of headings and rows of cells. A heading that ends with ":" is
// that of a column of numbers, aligned to the right; the ":" is not printed.
type Table struct {
	head []string
	rows [][]string
}

// New makes a table without rows.
func New(head ...string) *Table { return &Table{head: head} }

// Row appends a row; cells that are missing stay empty.
func (t *Table) Row(cells ...string) {
	t.rows = append(t.rows, append(cells, make([]string, max(0, len(t.head)-len(cells)))...))
}

// String is the table in Markdown, with columns that are also aligned in the text;
// "" if there are no rows.
func (t *Table) String() string {
	if len(t.rows) == 0 {
		return ""
	}
	var b strings.Builder
	head, rule, width := make([]string, len(t.head)), make([]string, len(t.head)), make([]int, len(t.head))
	for i, name := range t.head {
		head[i] = strings.TrimSuffix(name, ":")
		width[i] = max(3, utf8.RuneCountInString(head[i]))
		for _, row := range t.rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
		rule[i] = strings.Repeat("-", width[i])
		if t.right(i) {
			rule[i] = rule[i][1:] + ":"
		}
	}
	for _, row := range append([][]string{head, rule}, t.rows...) {
		for i := range t.head {
			space := strings.Repeat(" ", width[i]-utf8.RuneCountInString(row[i]))
			if t.right(i) {
				fmt.Fprintf(&b, "| %s%s ", space, row[i])
			} else {
				fmt.Fprintf(&b, "| %s%s ", row[i], space)
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}

func (t *Table) right(i int) bool { return strings.HasSuffix(t.head[i], ":") }

// Figure writes a number with three digits that count, and thousands apart.
func Figure(v float64) string {
	digits := 0
	if v != 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	return apart(fmt.Sprintf("%.*f", digits, v))
}

// Count writes a whole number, with thousands apart.
func Count(n int) string { return apart(fmt.Sprint(n)) }

func apart(number string) string {
	whole, fraction, found := strings.Cut(number, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if found {
		return whole + "." + fraction
	}
	return whole
}
