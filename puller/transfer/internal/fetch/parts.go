package fetch

import (
	"time"

	"github.com/pullkit/pullkit/internal/spans"
)

const (
	// maxPart is the largest part of a blob on a slow link. While the hash waits for the end
	// of a part, the bytes of other parts come and are not hashed. With larger parts the hash
	// would be so far behind that it ends later than the link, and the bytes might have left
	// the page cache. On a fast link bytes are hashed earlier, so parts are larger. Parts are also large because a
	// connection from which another connection takes over bytes is closed, and the bytes
	// that are on their way are lost.
	maxPart     = 192 << 20
	minFastPart = 64 << 20
	maxFastPart = 512 << 20
	// The smallest part is what a connection brings in leastTime, between minPart and
	// enoughPart bytes. With smaller parts, the round trip between two parts would
	// matter.
	leastTime  = 100 * time.Millisecond
	minPart    = 1 << 20
	enoughPart = 8 << 20
	// openTime is about how long it takes until a connection that is added brings bytes.
	openTime = 50 * time.Millisecond
	// lateness is how much a connection must delay the end of the blob before another
	// connection takes over some of its part while there are bytes that no connection
	// fetches, or takes over few bytes.
	lateness = 250 * time.Millisecond
)

// A forecast says how the rest of a large blob's fetch will go. It decides how the blob is
// divided into parts.
//
// The fewer parts, the fewer requests. But the hash needs the bytes in order. Within a
// part that a connection is fetching, the hash is only as fast as that connection, while
// other connections bring bytes that come later in the blob. The hash reaches those bytes
// after the part has ended, and hashes them faster than they came. So a part may be long
// while much of the blob comes after it, and parts get shorter towards the blob's end.
type forecast struct {
	size     int64   // of the blob
	missing  int64   // bytes that have not come
	unhashed int64   // bytes that are not hashed
	conns    int     // connections that the blob will have
	fast     bool    // the link is fast
	read     float64 // seconds that a byte takes over one connection, on average
	hash     float64 // seconds that it takes to hash a byte
}

// left returns how many seconds the rest of the fetch will take. That is as long as all
// connections take for the missing bytes or, if that is longer, an eighth more than the
// hash takes: with the last few percent of speed, each part would have to be small.
func (f forecast) left() float64 {
	return max(float64(f.missing)*f.read/float64(f.conns), float64(f.unhashed)*f.hash*9/8) + openTime.Seconds()
}

// end returns how many seconds it will take until the blob is hashed, if a connection that
// takes read seconds for a byte brings part, and nothing else takes longer.
func (f forecast) end(part spans.Span, read float64) float64 {
	return float64(part.Len())*read + float64(f.size-part.End)*f.hash
}

// least returns the smallest part for a connection that takes read seconds for a byte.
func (f forecast) least(read float64) int64 {
	if f.fast {
		return minFastPart
	}
	return max(minPart, inLeastTime(read))
}

// inLeastTime returns how many bytes a connection that takes read seconds for a byte brings
// in leastTime, at least one buffer and at most enoughPart bytes.
func inLeastTime(read float64) int64 {
	n := min(leastTime.Seconds()/read, enoughPart)
	return max(1, int64(n)/bufferSize) * bufferSize
}

// part returns how many bytes of a gap, from its beginning on, are fetched by a connection
// that takes read seconds for a byte: as many as possible without delaying the end of the
// blob. On a fast link, the time that small parts could save is too short to be worth
// their requests.
func (f forecast) part(gap spans.Span, read float64) int64 {
	n := float64(maxFastPart)
	if !f.fast && read > f.hash {
		// n bytes are in time if n*read + (f.size-gap.Off-n)*f.hash = f.left().
		n = min(maxPart, (f.left()-float64(f.size-gap.Off)*f.hash)/(read-f.hash))
	}
	least := f.least(read)
	part := max(least, int64(n)/bufferSize*bufferSize)
	if gap.Len()-part < least/2 {
		return gap.Len() // the rest is too small for a request
	}
	return part
}

// forecast says how the rest of the fetch will go with n connections, or with more if the
// budget has more. The lock is held.
func (l *largeFetch) forecast(n int) forecast {
	rate := 0.0 // bytes a second, of all active connections
	for _, c := range l.active {
		rate += 1 / c.perByte()
	}
	read, hash := float64(len(l.active))/rate, l.hashing.perByte()
	if !l.inParts { // later, connections may have to share the link
		l.fast = read <= 4*hash
	}
	return forecast{
		size:     l.Desc.Size,
		missing:  l.Desc.Size - l.written.Total(),
		unhashed: l.Desc.Size - l.mark,
		conns:    min(l.budget.available(n), max(n, l.config.MaxConnsPerBlob)),
		fast:     l.fast,
		read:     read,
		hash:     hash,
	}
}

// late returns bytes of the active connection from that another connection should take
// over. The other connection needs read seconds for a byte. from is the connection whose
// part will be complete last. While bytes are unassigned, nothing is taken over unless
// from's part will delay the end of the blob. from is nil if there are fewer than least
// bytes to take over, unless from would need longer than lateness for them. The lock is
// held.
func (l *largeFetch) late(f forecast, read float64, least int64) (share spans.Span, from *conn) {
	if l.noParts {
		return share, nil
	}
	end := 0.0
	if len(l.unassigned) > 0 {
		end = f.left()*9/8 + lateness.Seconds()
	}
	for _, c := range l.active {
		left := spans.Span{Off: c.reserved, End: c.part.End}
		if e := f.end(left, c.perByte()); left.Len() > 0 && e > end {
			share, from, end = left, c, e
		}
	}
	if from == nil {
		return share, nil
	}
	// Both end at the same time, or from ends earlier. from does not end before the other
	// connection is open.
	own := from.perByte()
	keep := min(f.part(share, own), int64(float64(share.Len())*read/(read+own)))
	share.Off += max(keep, inLeastTime(own)) / bufferSize * bufferSize
	if share.Len() < least && float64(share.Len())*own < lateness.Seconds() {
		return share, nil
	}
	return share, from
}

// takeUnassigned takes the first of the missing bytes that no connection fetches, for a
// connection that needs read seconds for a byte. The lock is held.
func (l *largeFetch) takeUnassigned(f forecast, read float64) spans.Span {
	gap := l.unassigned[0]
	l.unassigned = l.unassigned[1:]
	return l.divide(f, gap, read)
}

// divide returns what one connection fetches of a gap: all of it, or a part if the blob is
// fetched in parts. The rest becomes unassigned. The lock is held.
func (l *largeFetch) divide(f forecast, gap spans.Span, read float64) spans.Span {
	part := gap
	if l.inParts && !l.noParts {
		part.End = part.Off + f.part(gap, read)
	}
	l.unassigned = l.unassigned.Add(spans.Span{Off: part.End, End: gap.End})
	return part
}
