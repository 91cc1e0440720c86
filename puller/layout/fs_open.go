package layout

import (
	"fmt"
	"os"
)

// OpenFile looks at the name before it opens, so that no pipe blocks it, and
// compares afterwards, so that no link that came in between is followed.
func (f *osFS) OpenFile(name string, flag int) (file, error) {
	d, base, err := f.split(name)
	if err != nil {
		return nil, err
	}
	if flag&os.O_EXCL != 0 {
		f.naming.Lock()
		defer f.naming.Unlock()
		h, err := d.root.OpenFile(base, flag, 0o644)
		if err != nil {
			return nil, err
		}
		return osFile{h}, nil
	}
	for range openTries {
		h, err := openRegular(d, name, base, flag)
		if h != nil || err != nil {
			return h, err
		}
	}
	return nil, fmt.Errorf("%q changes whenever it is opened: %w", name, errNotRegular)
}

// openTries is how often a file is opened anew that another program replaced just
// then, as every Tag does with index.json.
const openTries = 100

// openRegular returns nil, and no error, if another file got the name meanwhile.
func openRegular(d *osDir, name, base string, flag int) (file, error) {
	before, err := d.root.Lstat(base)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%q: %w", name, errNotRegular)
	}
	h, err := d.root.OpenFile(base, flag&^os.O_CREATE, 0)
	if err != nil {
		if now, lerr := d.root.Lstat(base); lerr == nil && !os.SameFile(before, now) {
			return nil, nil // it may be a link by now
		}
		return nil, err
	}
	after, err := h.Stat()
	if err == nil && os.SameFile(before, after) {
		names := uint64(1)
		if flag&os.O_RDWR != 0 {
			names, err = links(h, after)
		}
		if err == nil && names <= 1 {
			return osFile{h}, nil
		}
		if err == nil {
			err = fmt.Errorf("%q has other names, which writing would change: %w", name, errNotRegular)
		}
	}
	h.Close()
	return nil, err
}
