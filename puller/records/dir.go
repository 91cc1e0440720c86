package records

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
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A Dir is a [Store] in a directory:
//
//	intents/<hex sha256 of the image>-<random hex>.json   {"image":"registry.example/app:v1 linux/amd64"}
//	records/<hex sha256 of the image's ID>.json           a Record
//
// Each file is written under a temporary name, synced and renamed, so that a crash leaves
// the old or the new file. A file has at most 8 MiB. A Grant or Admit that would make it
// longer fails, and does not change the file. A record that cannot be read, or that is a
// pipe or a device, is an error for its image. An intent that cannot be read is an error
// for all images. After such an error the Puller asks the registry.
//
// A call returns soon after its context has ended, and after 30 seconds at the latest, even
// if the file system hangs. Such a call does not delay calls for other images.
//
// The directory is made with mode 0700: a user who can write to it decides which Pods may
// use which images. Several processes may share the directory. If two processes grant
// access to one image at the same moment, one grant may be lost; the next pull grants it
// again. [Open] makes a Dir; the zero Dir cannot be used. A Dir must not be copied. Its
// methods may be called concurrently.
type Dir struct {
	root  *os.Root
	limit int64         // how many bytes a file may have
	files chan struct{} // has one element for each running operation
	turns keylock.Locks // by file name: one operation at a time changes a file
}

const (
	intentsDir = "intents"
	recordsDir = "records"
	tempPrefix = ".tmp-"
	// maxFile is how many bytes a file may have. That is enough for 100 secrets and 100
	// service accounts under each of some hundred names.
	maxFile = 8 << 20
	// maxFiles is how many operations may run, or hang, at the same time.
	maxFiles = 64
)

// Open opens the records in dir, and makes the directory if it does not exist.
func Open(dir string) (*Dir, error) {
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
	return &Dir{root: root, limit: maxFile, files: make(chan struct{}, maxFiles)}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// callTime is how long an operation may take.
const callTime = 30 * time.Second

var errCallTime = fmt.Errorf("the file system did not answer within %v", callTime)

// maxID is how many bytes of an image's ID an error shows.
const maxID = 300

// work runs fn, an operation on files. If fn hangs, work returns when ctx ends, or after
// callTime, and fn goes on in its goroutine. If fn changes a file, turn is the file's
// name: work first waits until no other operation changes that file. If fn only reads,
// turn is "".
func work[T any](ctx context.Context, d *Dir, turn string, fn func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, errCallTime)
	defer cancel()
	var none T
	release := func() {}
	if turn != "" {
		unlock, err := d.turns.Lock(ctx, turn)
		if err != nil {
			return none, fmt.Errorf("records: %w", err)
		}
		release = unlock
	}
	if err := acquire(ctx, d.files); err != nil {
		release()
		return none, fmt.Errorf("records: %w", err)
	}
	type answer struct {
		got T
		err error
	}
	a, ok := await.Call(ctx, func() (a answer) {
		defer release()
		defer func() { <-d.files }()
		a.got, a.err = fn()
		return a
	})
	if !ok {
		return none, fmt.Errorf("records: %w", context.Cause(ctx))
	}
	return a.got, a.err
}

// acquire waits for a place in a channel whose capacity is the number of places. The
// error is the cause of the end of ctx.
func acquire(ctx context.Context, places chan struct{}) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type intentFile struct {
	Image string `json:"image"`
}

// Intend implements Store.
func (d *Dir) Intend(ctx context.Context, image string) (func() error, error) {
	name := path.Join(intentsDir, hashName(image)+"-"+randomHex()+".json")
	_, err := work(ctx, d, name, func() (struct{}, error) { return struct{}{}, d.write(name, intentFile{image}) })
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := work(context.Background(), d, name, func() (struct{}, error) { return struct{}{}, d.delete(name) })
		return err
	}, nil
}

// Intents implements Store.
func (d *Dir) Intents(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := work(ctx, d, "", func() ([]string, error) { return d.list(intentsDir) })
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			in, err := work(ctx, d, "", func() (in intentFile, err error) {
				err = d.read(name, &in)
				return in, err
			})
			switch {
			case ctx.Err() != nil:
				yield("", context.Cause(ctx))
				return
			case errors.Is(err, fs.ErrNotExist): // removed since it was listed
			case !yield(in.Image, err):
				return
			}
		}
	}
}

// Record implements Store.
func (d *Dir) Record(ctx context.Context, id string) (Record, error) {
	return work(ctx, d, "", func() (Record, error) { return d.record(id) })
}

func (d *Dir) record(id string) (Record, error) {
	var rec Record
	if err := d.read(recordFile(id), &rec); err != nil {
		return Record{}, err
	}
	if rec.ID != id {
		return Record{}, malformedf("%s is the record of %q, not of %q", recordFile(id), redact.Cut(rec.ID, maxID), redact.Cut(id, maxID))
	}
	return rec, nil
}

// List implements Lister.
func (d *Dir) List(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		names, err := work(ctx, d, "", func() ([]string, error) { return d.list(recordsDir) })
		if err != nil {
			yield(Record{}, err)
			return
		}
		for _, name := range names {
			rec, err := work(ctx, d, "", func() (rec Record, err error) {
				if err := d.read(name, &rec); err != nil {
					return Record{}, err
				}
				if recordFile(rec.ID) != name {
					return Record{}, malformedf("%s is the record of %q", name, redact.Cut(rec.ID, maxID))
				}
				return rec, nil
			})
			switch {
			case ctx.Err() != nil:
				yield(Record{}, context.Cause(ctx))
				return
			case errors.Is(err, fs.ErrNotExist): // removed since it was listed
			case !yield(rec, err):
				return
			}
		}
	}
}

// Grant implements Store.
func (d *Dir) Grant(ctx context.Context, id, name string, access Access) error {
	_, err := work(ctx, d, recordFile(id), func() (struct{}, error) {
		rec, err := d.record(id)
		var malformed *malformedError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			rec = Record{}
		case errors.As(err, &malformed):
			// The content is lost, but the file shows that there was a record.
			rec = Record{Incomplete: true}
		case err != nil:
			return struct{}{}, err
		}
		if rec.Names == nil {
			rec.ID, rec.Names = id, map[string]Access{}
		}
		rec.Names[name] = rec.Names[name].Merge(access)
		rec.Updated = time.Now().UTC()
		return struct{}{}, d.write(recordFile(id), rec)
	})
	return err
}

// Admit implements AdmissionStore.
func (d *Dir) Admit(ctx context.Context, id string, admission Admission) error {
	_, err := work(ctx, d, recordFile(id), func() (struct{}, error) {
		rec, err := d.record(id)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return struct{}{}, err
		}
		rec.ID, rec.Updated = id, time.Now().UTC()
		rec.Admissions = append(slices.DeleteFunc(rec.Admissions, admission.Equal), admission)
		rec.Admissions = rec.Admissions[max(0, len(rec.Admissions)-maxAdmissions):]
		return struct{}{}, d.write(recordFile(id), rec)
	})
	return err
}

// Sweep implements Store. It continues after errors and returns them joined. It removes
// notes of pulls that started more than a day before the given time, and temporary files
// that a crash has left. It keeps a record that cannot be read, because without the record
// the image would look preloaded.
func (d *Dir) Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error {
	before = before.Add(-clockLag)
	errs := []error{
		d.sweepDir(ctx, recordsDir, before, func(name string) bool {
			rec, err := work(ctx, d, "", func() (rec Record, err error) {
				err = d.read(name, &rec)
				return rec, err
			})
			return err != nil || stored(rec.ID)
		}),
		d.sweepDir(ctx, intentsDir, before.Add(-maxIntent), func(string) bool { return false }),
	}
	for _, dir := range []string{recordsDir, intentsDir} {
		errs = append(errs, d.sweepTemp(ctx, dir, before.Add(-time.Hour)))
	}
	return errors.Join(errs...)
}

// clockLag is longer than the clock of a file system can be behind the system's clock.
const clockLag = time.Second

// maxIntent is longer than any pull takes.
const maxIntent = 24 * time.Hour

func (d *Dir) sweepDir(ctx context.Context, dir string, before time.Time, keep func(name string) bool) error {
	names, err := work(ctx, d, "", func() ([]string, error) { return d.list(dir) })
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		old, err := work(ctx, d, "", func() (bool, error) { return d.olderThan(name, before), nil })
		if err == nil && old && !keep(name) {
			errs = append(errs, d.remove(ctx, name, before))
		}
	}
	return errors.Join(errs...)
}

func (d *Dir) olderThan(name string, before time.Time) bool {
	info, err := d.root.Stat(name)
	return err == nil && info.ModTime().Before(before)
}

// remove removes name, unless it was written at or after the given time.
func (d *Dir) remove(ctx context.Context, name string, before time.Time) error {
	_, err := work(ctx, d, name, func() (struct{}, error) {
		if !d.olderThan(name, before) {
			return struct{}{}, nil
		}
		return struct{}{}, d.delete(name)
	})
	return err
}

func (d *Dir) delete(name string) error {
	if err := disk.WhileBusy(func() error { return d.root.Remove(name) }); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

func (d *Dir) sweepTemp(ctx context.Context, dir string, before time.Time) error {
	names, err := work(ctx, d, "", func() ([]string, error) {
		return d.entries(dir, func(name string) bool { return strings.HasPrefix(name, tempPrefix) })
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, d.remove(ctx, name, before))
	}
	return errors.Join(errs...)
}

// list returns the files of dir that are records or intents.
func (d *Dir) list(dir string) ([]string, error) {
	return d.entries(dir, func(name string) bool {
		return strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, tempPrefix)
	})
}

func (d *Dir) entries(dir string, wanted func(name string) bool) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), dir)
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

// A malformedError says that a file exists but is not a record or an intent. Another read
// gives the same error.
type malformedError struct{ err error }

func (e *malformedError) Error() string { return "records: " + e.err.Error() }
func (e *malformedError) Unwrap() error { return e.err }

func malformedf(format string, args ...any) error {
	return &malformedError{fmt.Errorf(format, args...)}
}

func (d *Dir) read(name string, into any) error {
	data, _, err := regular.ReadIn(d.root, name, d.limit)
	switch {
	case errors.Is(err, regular.ErrNotRegular), errors.Is(err, regular.ErrTooLarge):
		return malformedf("%s %w", name, err)
	case err != nil:
		return fmt.Errorf("records: %w", err)
	}
	// The error texts of encoding/json change with GOEXPERIMENT=jsonv2, so errors here do not
	// quote them.
	if err := strictjson.Check(data); err != nil {
		return malformedf("%s: %w", name, err)
	}
	if json.Unmarshal(data, into) != nil {
		return malformedf("%s: a field of a record has a value of the wrong type", name)
	}
	return nil
}

// write writes v to the file name, durably. After an error or a crash the file has its old
// content or the whole new content.
func (d *Dir) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	if int64(len(data)) > d.limit { // read would refuse such a file
		return fmt.Errorf("records: %s would have %d bytes, more than the limit of %d", name, len(data), d.limit)
	}
	dir := path.Dir(name)
	temp := path.Join(dir, tempPrefix+randomHex())
	if err := d.writeTemp(temp, data); err != nil {
		d.root.Remove(temp)
		return fmt.Errorf("records: %w", err)
	}
	if err := disk.WhileBusy(func() error { return d.root.Rename(temp, name) }); err != nil {
		d.root.Remove(temp)
		return fmt.Errorf("records: %w", err)
	}
	if err := d.syncDir(dir); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

func (d *Dir) writeTemp(temp string, data []byte) error {
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
