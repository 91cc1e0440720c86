package layout

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/content"
)

// fail is an error of kind content.ErrStore that says what was done.
func (l *Layout) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if kind := content.KindOf(err); kind != "" {
		return err // said already
	}
	return &content.Error{Kind: content.ErrStore, Err: fmt.Errorf("layout %q: %s: %w", l.dir, fmt.Sprintf(format, args...), opaque(err))}
}

// opaque hides that a file was there or was not: to a caller fs.ErrExist and
// fs.ErrNotExist say that of content and names, and these errors do not.
func opaque(err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}

func (l *Layout) notFound(format string, args ...any) error {
	return &content.Error{Kind: content.ErrNotFound, Err: fmt.Errorf("layout %q: %s", l.dir, fmt.Sprintf(format, args...))}
}

// stored is what Ingest answers for content that is there.
func (l *Layout) stored(d digest.Digest) error {
	return fmt.Errorf("layout %q: blob %s is stored: %w", l.dir, d, fs.ErrExist)
}

// errOtherFile says that another file has the name of one that was written or read.
var errOtherFile = errors.New("not the file that it was")
