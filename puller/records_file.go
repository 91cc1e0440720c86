package puller

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
)

// FileRecords are Records in a directory:
//
//	intents/<hex sha256 of the image>-<random hex>.json   {"image":"registry.example/app:v1 linux/amd64"}
//	records/<hex sha256 of the image's ID>.json           a Record
//
// Each file is written aside, flushed, and renamed into place, so that a crash
// leaves the old or the new one. A file has at most 8 MiB: a Grant that would make a
// longer one fails, and the file stays as it is. A file that cannot be read, or is a
// pipe or a device, is an error for the image it is about, or for all images if it is
// an intent; then the registry is asked.
//
// A call returns soon after its context has ended, and in any case after 30 seconds,
// also where the file system hangs. Calls for other images go on meanwhile.
//
// The directory is made with mode 0700: whoever can write to it decides who may
// use images. Several processes may share it; of two that grant access to one
// image in the same moment, one grant may be lost, and is made good by the next
// pull. FileRecords are made by [OpenRecords],
// and must not be copied.
type FileRecords struct {
	root  *os.Root
	limit int64 // bytes of a file
	files slots // how many operations on files run at a time
	turns turns // one change of a file at a time
}

const (
	intentsDir = "intents"
	recordsDir = "records"
	tempPrefix = ".tmp-"
	// maxRecord bounds a file: 100 secrets and 100 service accounts under each of
	// some hundred names.
	maxRecord = 8 << 20
	// maxRecordFiles bounds how many operations can hang at a time.
	maxRecordFiles = 64
)

// OpenRecords opens the records in dir and makes the directory if need be.
func OpenRecords(dir string) (*FileRecords, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	for _, sub := range []string{intentsDir, recordsDir} {
		if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			root.Close()
			return nil, fmt.Errorf("records: %w", err)
		}
	}
	return &FileRecords{root: root, limit: maxRecord, files: newSlots(maxRecordFiles)}, nil
}

// Close releases the directory.
func (r *FileRecords) Close() error { return r.root.Close() }

// work runs an operation on files, which may hang: then work returns when ctx ends, or
// after recordTime, and the operation goes on alone. An operation that changes a file
// names it as turn, and waits until no other one changes it.
func work[T any](ctx context.Context, r *FileRecords, turn string, fn func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recordTime, errRecordTime)
	defer cancel()
	var none T
	release, err := r.turns.take(ctx, turn)
	if err != nil {
		return none, fmt.Errorf("records: %w", err)
	}
	if err := r.files.acquire(ctx); err != nil {
		release()
		return none, fmt.Errorf("records: %w", err)
	}
	type answer struct {
		got T
		err error
	}
	a, ok := await.Call(ctx, func() (a answer) {
		defer release()
		defer r.files.release()
		a.got, a.err = fn()
		return a
	})
	if !ok {
		return none, fmt.Errorf("records: %w", context.Cause(ctx))
	}
	return a.got, a.err
}

// turns let one at a time do what has the same name. The zero value is ready.
type turns struct {
	mu    sync.Mutex
	slots map[string]*turnSlot
}

type turnSlot struct {
	slots
	users int // that have it, or wait for it
}

// take waits for name's turn; "" needs none.
func (t *turns) take(ctx context.Context, name string) (release func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	t.mu.Lock()
	s := t.slots[name]
	if s == nil {
		if t.slots == nil {
			t.slots = map[string]*turnSlot{}
		}
		s = &turnSlot{slots: newSlots(1)}
		t.slots[name] = s
	}
	s.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(t.slots, name)
		}
	}
	if err := s.acquire(ctx); err != nil {
		leave()
		return nil, err
	}
	return func() {
		s.release()
		leave()
	}, nil
}

type intentFile struct {
	Image string `json:"image"`
}

// Intend implements Records.
func (r *FileRecords) Intend(ctx context.Context, image string) (func() error, error) {
	name := path.Join(intentsDir, hashName(image)+"-"+randomHex()+".json")
	_, err := work(ctx, r, name, func() (struct{}, error) { return struct{}{}, r.write(name, intentFile{image}) })
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := work(context.Background(), r, name, func() (struct{}, error) { return struct{}{}, r.delete(name) })
		return err
	}, nil
}

// Intents implements Records.
func (r *FileRecords) Intents(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := work(ctx, r, "", func() ([]string, error) { return r.list(intentsDir) })
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			in, err := work(ctx, r, "", func() (in intentFile, err error) {
				err = r.read(name, &in)
				return in, err
			})
			switch {
			case ctx.Err() != nil:
				yield("", context.Cause(ctx))
				return
			case errors.Is(err, fs.ErrNotExist): // taken back meanwhile
			case !yield(in.Image, err):
				return
			}
		}
	}
}

// Record implements Records.
func (r *FileRecords) Record(ctx context.Context, id string) (Record, error) {
	return work(ctx, r, "", func() (Record, error) { return r.record(id) })
}

func (r *FileRecords) record(id string) (Record, error) {
	var rec Record
	if err := r.read(recordFile(id), &rec); err != nil {
		return Record{}, err
	}
	if rec.ID != id {
		return Record{}, malformedf("%s is the record of %q, not of %q", recordFile(id), redact.Cut(rec.ID, maxName), redact.Cut(id, maxName))
	}
	return rec, nil
}

// Grant implements Records.
func (r *FileRecords) Grant(ctx context.Context, id, name string, access Access) error {
	_, err := work(ctx, r, recordFile(id), func() (struct{}, error) {
		rec, err := r.record(id)
		var malformed *malformedError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			rec = Record{}
		case errors.As(err, &malformed):
			// What cannot be read says nothing any more, but that there was something.
			rec = Record{Incomplete: true}
		case err != nil:
			return struct{}{}, err
		}
		if rec.Names == nil {
			rec.ID, rec.Names = id, map[string]Access{}
		}
		rec.Names[name] = rec.Names[name].Merge(access)
		rec.Updated = time.Now().UTC()
		return struct{}{}, r.write(recordFile(id), rec)
	})
	return err
}

// Sweep implements Records. It goes on after errors and returns them joined.
// Notes of pulls that began more than a day before the given time are dropped,
// and so are temporary files that a crash has left. A record that cannot be read
// stays: without it the image would look like one that was always there.
func (r *FileRecords) Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	before = before.Add(-clockLag)
	errs := []error{
		r.sweepDir(ctx, recordsDir, before, func(name string) bool {
			rec, err := work(ctx, r, "", func() (rec Record, err error) {
				err = r.read(name, &rec)
				return rec, err
			})
			return err != nil || stored(rec.ID)
		}),
		r.sweepDir(ctx, intentsDir, before.Add(-maxIntent), func(string) bool { return false }),
	}
	for _, dir := range []string{recordsDir, intentsDir} {
		errs = append(errs, r.sweepTemp(ctx, dir, before.Add(-time.Hour)))
	}
	return errors.Join(errs...)
}

// clockLag is more than the clock of a file system lags behind.
const clockLag = time.Second

// maxIntent is longer than any pull takes.
const maxIntent = 24 * time.Hour

func (r *FileRecords) sweepDir(ctx context.Context, dir string, before time.Time, keep func(name string) bool) error {
	names, err := work(ctx, r, "", func() ([]string, error) { return r.list(dir) })
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		old, err := work(ctx, r, "", func() (bool, error) { return r.olderThan(name, before), nil })
		if err == nil && old && !keep(name) {
			errs = append(errs, r.remove(ctx, name, before))
		}
	}
	return errors.Join(errs...)
}

func (r *FileRecords) olderThan(name string, before time.Time) bool {
	info, err := r.root.Stat(name)
	return err == nil && info.ModTime().Before(before)
}

// remove removes name if it was not written meanwhile.
func (r *FileRecords) remove(ctx context.Context, name string, before time.Time) error {
	_, err := work(ctx, r, name, func() (struct{}, error) {
		if !r.olderThan(name, before) {
			return struct{}{}, nil
		}
		return struct{}{}, r.delete(name)
	})
	return err
}

func (r *FileRecords) delete(name string) error {
	if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

func (r *FileRecords) sweepTemp(ctx context.Context, dir string, before time.Time) error {
	names, err := work(ctx, r, "", func() ([]string, error) {
		return r.entries(dir, func(name string) bool { return strings.HasPrefix(name, tempPrefix) })
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, r.remove(ctx, name, before))
	}
	return errors.Join(errs...)
}

// list returns the files of dir that are records or intents.
func (r *FileRecords) list(dir string) ([]string, error) {
	return r.entries(dir, func(name string) bool {
		return strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, tempPrefix)
	})
}

func (r *FileRecords) entries(dir string, wanted func(name string) bool) ([]string, error) {
	entries, err := fs.ReadDir(r.root.FS(), dir)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var names []string
	for _, e := range entries {
		if wanted(e.Name()) {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// A malformedError says that a file is there and no record or intent: another try will
// not read it either.
type malformedError struct{ err error }

func (e *malformedError) Error() string { return "records: " + e.err.Error() }
func (e *malformedError) Unwrap() error { return e.err }

func malformedf(format string, args ...any) error {
	return &malformedError{fmt.Errorf(format, args...)}
}

func (r *FileRecords) read(name string, into any) error {
	data, _, err := regular.ReadIn(r.root, name, r.limit)
	switch {
	case errors.Is(err, regular.ErrNotRegular), errors.Is(err, regular.ErrTooLarge):
		return malformedf("%s %w", name, err)
	case err != nil:
		return fmt.Errorf("records: %w", err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return malformedf("%s: %w", name, err)
	}
	return nil
}

// write makes name hold v: whole, or not at all, and durable.
func (r *FileRecords) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if int64(len(data)) > r.limit { // read would refuse it
		return fmt.Errorf("records: %s would have %d bytes, at most %d are kept", name, len(data), r.limit)
	}
	dir := path.Dir(name)
	temp := path.Join(dir, tempPrefix+randomHex())
	if err := r.writeTemp(temp, data); err != nil {
		r.root.Remove(temp)
		return fmt.Errorf("records: %w", err)
	}
	if err := r.root.Rename(temp, name); err != nil {
		r.root.Remove(temp)
		return fmt.Errorf("records: %w", err)
	}
	if err := r.syncDir(dir); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

func (r *FileRecords) writeTemp(temp string, data []byte) error {
	f, err := r.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func recordFile(id string) string { return path.Join(recordsDir, hashName(id)+".json") }

func hashName(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func randomHex() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
