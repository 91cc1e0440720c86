package transfer

import (
	"context"
	"hash"

	"github.com/pullkit/pullkit/internal/spans"
)

// inline reads, hashes and writes a blob in one goroutine.
func (t *try) inline(ctx context.Context, h hash.Hash) error {
	if t.desc.Size == 0 {
		return nil
	}
	buf, err := t.rt.pool.get(ctx)
	if err != nil {
		return err
	}
	defer t.rt.pool.put(buf)
	for off := int64(0); off < t.desc.Size; {
		if end := t.kept.After(off); end > off {
			n := int(min(end-off, int64(len(buf))))
			if err := t.readAt(buf[:n], off); err != nil {
				return err
			}
			t.rt.hashing.write(h, buf[:n])
			off += int64(n)
			continue
		}
		off, err = t.inlineGap(ctx, h, buf, t.kept.Gap(off, t.desc.Size))
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// inlineGap fetches a part that is missing and returns how far all is hashed.
func (t *try) inlineGap(ctx context.Context, h hash.Hash, buf []byte, gap spans.Span) (int64, error) {
	body, start, err := t.open(ctx, gap, false)
	if err != nil {
		return gap.Off, err
	}
	defer body.Close()
	if start != gap.Off { // the whole blob, from its first byte
		h.Reset()
		gap = spans.Span{Off: 0, End: t.desc.Size}
		t.forgetKept()
	}
	for off := gap.Off; off < gap.End; {
		n, rerr := readFull(body, buf[:min(int64(len(buf)), gap.End-off)])
		if n > 0 {
			if err := t.writeAt(buf[:n], off); err != nil {
				return off, err
			}
			t.f.got.Add(int64(n))
			t.rt.hashing.write(h, buf[:n])
			t.keepConfig(buf[:n])
			off += int64(n)
		}
		if rerr != nil {
			return off, rerr
		}
	}
	return gap.End, t.atEnd(body, gap.End)
}

// forgetKept makes nothing of what an earlier try kept: the server gives all of it again.
func (t *try) forgetKept() {
	t.kept = nil
	t.f.resumed.Store(0)
	t.f.got.Store(0)
	t.f.restarts.Add(1)
}
