package layout

const (
	// reserveFrom is the size from which a blob has room reserved for it.
	reserveFrom = 8 << 20
	// reserveAhead is how far ahead of its writes, at most.
	reserveAhead = 8 << 20
	// noReserve is for a partial whose file system does not do that.
	noReserve = -1
)

// reserve sees that there is room for what is written up to end, and some more:
// a file system that is asked once for many blocks has less to do for each write
// and each sync, and lays them side by side. It does so as long as the partial is
// written from its beginning on, whose length stays what was written. The caller
// holds mu.
func (in *ingest) reserve(end int64) {
	if in.reserved == noReserve || end <= in.reserved || in.desc.Size < reserveFrom {
		return
	}
	from := max(in.reserved, in.beginning().End)
	to := min(in.desc.Size, max(end, from+reserveAhead))
	if to <= from {
		return
	}
	in.reserved = to
	if in.f.Reserve(from, to-from) != nil {
		in.reserved = noReserve // whatever is wrong, a write will tell
	}
	in.countAhead()
}

// countAhead keeps the sum of what is reserved and not yet written: the system
// counts it as used, and whoever asks for free space counts it as missing. The
// caller holds mu.
func (in *ingest) countAhead() {
	ahead := max(0, in.reserved-in.beginning().End)
	if in.ended {
		ahead = 0
	}
	in.l.ahead.Add(ahead - in.ahead)
	in.ahead = ahead
}
