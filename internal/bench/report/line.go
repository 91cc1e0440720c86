package report

import (
	"strings"
)

// A Line is one goal of the table of all goals.
type Line struct {
	Row              string // what was measured
	Goal             Goal
	Ours, Base, Peer string // the figures of pullkit, of the base and of the best peer
}

// Judge appends a row with its goals, and adds the goals to Judged. The first cell names the
// row. A cell belongs to ours if its head begins or ends with the text ours. The other cells
// belong to the peers, except the one under the head "bytes".
func (t *Table) Judge(ours string, cells []string, goals ...Goal) {
	want, reached := Cells(goals...)
	t.Add(append(cells, want, reached)...)
	var mine, peers []string
	for i, cell := range cells[1:] {
		switch head := t.Head[i+1]; {
		case strings.HasPrefix(head, ours), strings.HasSuffix(head, ours):
			mine = append(mine, cell)
		case head != "bytes":
			peers = append(peers, cell+" "+head)
		}
	}
	for _, g := range goals {
		t.Judged = append(t.Judged, Line{
			Row: t.Title + ", " + cells[0] + " " + t.Head[0], Goal: g, Ours: strings.Join(mine, ", "), Peer: strings.Join(peers, ", "),
		})
	}
}
