package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

const (
	whiteoutPrefix = ".wh."
	xattrPrefix    = "SCHILY.xattr." // of a PAX record
)

// An applier applies layers to a root file system, one after the other.
type applier struct {
	root       string // path
	cfg        Config
	privileged bool // the process is root: owners, extended attributes and set-ID bits are kept
	devices    bool // devices are made

	layerLeft int64       // bytes that the files of this layer may still have
	file      string      // name of the entry that is being applied
	last      *tar.Header // of the previous entry
	files     int         // entries so far
	bytes     int64       // of the files so far
	dropped   Dropped
	setID     int
}

// apply applies a layer. If it succeeds, it has read the whole layer.
func (a *applier) apply(ctx context.Context, l *layer) error {
	a.file, a.last, a.layerLeft = "", nil, tarLimit(l.desc.Size, a.cfg.MaxRatio)
	l.spool.begin()
	defer l.spool.leave()
	in := &spoolReader{s: l.spool}
	defer in.drop()
	opts := []archive.ApplyOpt{archive.WithFilter(a.filter)}
	if !a.privileged {
		opts = append(opts, archive.WithNoSameOwner())
	}
	_, err := archive.Apply(log.WithLogger(ctx, silent), a.root, in, opts...)
	if err == nil {
		a.file = ""
		_, err = io.Copy(io.Discard, in) // what follows the tar is a part of the diff ID
	}
	switch {
	case err == nil:
		return nil
	case in.err != nil && in.err != io.EOF:
		return in.err // the error of the blob, or of its decompression
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tar.ErrFieldTooLong):
		return &Error{Layer: l.desc.Digest, Err: bad(ErrBadLayer, "%v", err)}
	}
	var reason Reason
	var number syscall.Errno
	if !errors.As(err, &reason) && !errors.As(err, &number) {
		err = bad(ErrBadLayer, "%v", err) // the library refuses the entry
	}
	return &Error{Layer: l.desc.Digest, File: a.file, Err: err}
}

// silent is a logger that writes nothing. The library would log what it leaves out, and
// Result.Dropped already says that.
var silent = func() *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}()

// filter is called by the library for each entry of a layer, before the entry is applied. It may
// change the entry. It returns false for an entry that is left out.
func (a *applier) filter(h *tar.Header) (bool, error) {
	a.shrink(h)
	a.file = h.Name
	if h.Typeflag == tar.TypeXGlobalHeader {
		return false, nil // comments; its other records are not used
	}
	if a.files++; a.files > a.cfg.MaxFiles {
		return false, bad(ErrTooLarge, "it has more than %d files and directories, see Config.MaxFiles", a.cfg.MaxFiles)
	}
	switch h.Typeflag {
	case tar.TypeGNUSparse, tar.TypeCont:
		h.Typeflag = tar.TypeReg // their content is read as that of any file
	}
	// The size of a sparse file counts its holes, which are not in the tar. Some programs give a
	// hard link the size of its file, although the content is not in the tar a second time.
	size := h.Size
	if h.Typeflag != tar.TypeReg {
		size = 0
	}
	if a.layerLeft -= size; size < 0 || a.layerLeft < 0 {
		return false, errRatio
	}
	if a.bytes += size; a.bytes < 0 || a.bytes > a.cfg.MaxBytes {
		return false, bad(ErrTooLarge, "its files have more than %d bytes together, see Config.MaxBytes", a.cfg.MaxBytes)
	}
	whiteout := strings.HasPrefix(path.Base(h.Name), whiteoutPrefix)
	switch h.Typeflag {
	case tar.TypeChar, tar.TypeBlock:
		if whiteout || a.devices {
			break
		}
		h.Typeflag = tar.TypeReg // in a user namespace the library leaves out every entry that is a device, even if it is a whiteout
		a.dropped.Devices++
		// A whiteout takes the place of the device, so that a file of this name in a lower layer
		// is removed.
		base := path.Base(h.Name)
		if base == "." || base == ".." || base == "/" {
			return false, nil
		}
		h.Name = path.Join(path.Dir(h.Name), whiteoutPrefix+base)
		return true, nil
	}
	if whiteout {
		return true, nil
	}
	a.restrict(h)
	return true, nil
}

// shrink frees memory of the previous entry. The library keeps the header of each directory
// until the layer ends, and then needs only its name and times. The PAX records of an entry have
// up to 1 MiB. The name can share their memory, so shrink copies it.
func (a *applier) shrink(h *tar.Header) {
	if a.last != nil {
		*a.last = tar.Header{Name: a.last.Name, ModTime: a.last.ModTime, AccessTime: a.last.AccessTime}
	}
	a.last, h.Name = h, strings.Clone(h.Name)
}

// The set-user-ID and set-group-ID bits of a tar.
const setIDBits = 0o6000

// restrict removes from an entry what only root can give to a file, and counts it. If the
// process is root, it removes only the extended attributes of the namespace "trusted".
func (a *applier) restrict(h *tar.Header) {
	hasSetID := h.Mode&setIDBits != 0 && h.Typeflag != tar.TypeSymlink
	if a.privileged && hasSetID {
		a.setID++
	}
	for key := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok && (!a.privileged || strings.HasPrefix(name, "trusted.")) {
			delete(h.PAXRecords, key)
			a.dropped.XAttrs++
		}
	}
	if a.privileged {
		return
	}
	if h.Uid != os.Geteuid() || h.Gid != os.Getegid() {
		a.dropped.Owners++
	}
	if hasSetID {
		a.dropped.SetID++
	}
	if h.Typeflag != tar.TypeSymlink {
		h.Mode &^= setIDBits
	}
	if h.Typeflag == tar.TypeDir {
		h.Mode |= 0o700 // so that the owner can fill it, and remove it
	}
}

// applyAll applies all layers in their order, and calls applied after each of them. Each layer
// is decompressed and verified in a goroutine of its own, a few layers ahead of the layer that
// is being applied.
func (u *unpacker) applyAll(ctx context.Context, a *applier, layers []*layer, applied func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	slots := make(chan struct{}, u.ahead())
	running.Go(func() {
		for i, l := range layers {
			select {
			case slots <- struct{}{}:
				running.Go(func() { u.fill(ctx, l) })
			case <-ctx.Done():
				for _, l := range layers[i:] {
					l.spool.end(context.Cause(ctx))
				}
				return
			}
		}
	})
	defer func() {
		cancel()
		for _, l := range layers {
			l.spool.leave()
		}
		running.Wait()
		for _, l := range layers {
			l.spool.close()
		}
	}()
	for _, l := range layers {
		if err := a.apply(ctx, l); err != nil {
			return u.blame(ctx, l, err)
		}
		l.spool.close()
		<-slots
		applied()
	}
	return nil
}
