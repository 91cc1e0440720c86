package fetch

import (
	"testing"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/stretchr/testify/assert"
)

// For each reason that makes a part long or short, the table has a forecast that differs from
// the first forecast only in that reason.
func TestEachReasonDecidesTheLengthOfAPart(t *testing.T) {
	const mib = 1 << 20
	// Nothing of 1 GiB has come. Each of eight connections brings 64 MiB a second, so all of
	// it will have come after 2 seconds. The hash of all takes 1 second.
	slow := forecast{size: 1024 * mib, missing: 1024 * mib, unhashed: 1024 * mib, conns: 8, read: 1. / (64 * mib), hash: 1. / (1024 * mib)}
	all := spans.Span{Off: 0, End: 1024 * mib}
	for name, tt := range map[string]struct {
		change func(*forecast)
		gap    spans.Span
		read   float64 // MiB a second of the connection
		want   int64   // MiB
	}{
		"the first of many":                  {func(*forecast) {}, all, 64, 71},
		"a faster connection":                {func(*forecast) {}, all, 128, 153},
		"a fast link":                        {func(f *forecast) { f.fast = true }, all, 64, 512},
		"as fast as the hash":                {func(*forecast) {}, all, 1024, 512},
		"a little slower than that":          {func(*forecast) {}, all, 1000, 192},
		"a gap that is shorter":              {func(*forecast) {}, spans.Span{Off: 0, End: 60 * mib}, 64, 60},
		"the rest of the gap would be small": {func(*forecast) {}, spans.Span{Off: 0, End: 73 * mib}, 64, 73},
		"the rest would not be so small":     {func(*forecast) {}, spans.Span{Off: 0, End: 76 * mib}, 64, 71},
		"all of a gap on a fast link":        {func(f *forecast) { f.fast = true }, spans.Span{Off: 0, End: 500 * mib}, 64, 500},
		"the end of the blob":                {func(f *forecast) { f.missing, f.unhashed = 96*mib, 128*mib }, spans.Span{Off: 960 * mib, End: 1024 * mib}, 64, 11},
		"the hash is far behind":             {func(f *forecast) { f.missing = 96 * mib }, spans.Span{Off: 960 * mib, End: 1024 * mib}, 64, 64},
		"the least is what comes in 100 ms":  {func(f *forecast) { f.missing, f.unhashed = 1*mib, 1*mib }, all, 40, 4},
		"the least is at most 8 MiB":         {func(f *forecast) { f.missing, f.unhashed = 1*mib, 1*mib }, all, 200, 8},
		"the least is at least 1 MiB":        {func(f *forecast) { f.missing, f.unhashed = 1*mib, 1*mib }, all, 1, 1},
		"a large blob":                       {func(f *forecast) { f.size, f.missing, f.unhashed = 1<<40, 1<<40, 1<<40 }, spans.Span{Off: 0, End: 1 << 40}, 64, 192},
		"a hash that takes no time":          {func(f *forecast) { f.hash = 0 }, all, 64, 131},
	} {
		f := slow
		tt.change(&f)
		assert.Equal(t, tt.want, f.part(tt.gap, 1/(tt.read*mib))/mib, name)
	}
	slow.fast = true
	assert.EqualValues(t, 64, slow.least(1./(64*mib))/mib, "the least on a fast link")
}
