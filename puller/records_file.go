package puller

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

// FileRecords are Records in a directory:
//
//	intents/<hex sha256 of the image>-<random hex>.json   {"image":"registry.example/app:v1 linux/amd64"}
//	records/<hex sha256 of the image's ID>.json           a Record
//
// Each file is written aside, flushed, and renamed into place, so that a crash
// leaves the old or the new one. A file that cannot be read is an error for the
// image it is about, or for all images if it is an intent; then the registry is
// asked.
//
// The directory is made with mode 0700: whoever can write to it decides who may
// use images. Several processes may share it; of two that grant access to one
// image in the same moment, one grant may be lost, and is made good by the next
// pull. FileRecords are made by [OpenRecords],
// and must not be copied.
type FileRecords struct {
	root *os.Root
	mu   sync.Mutex // one change at a time
}

const (
	intentsDir = "intents"
	recordsDir = "records"
	tempPrefix = ".tmp-"
	// maxRecord bounds a file: 100 secrets and 100 service accounts under each of
	// some hundred names.
	maxRecord = 8 << 20
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
	return &FileRecords{root: root}, nil
}

// Close releases the directory.
func (r *FileRecords) Close() error { return r.root.Close() }

type intentFile struct {
	Image string `json:"image"`
}

// Intend implements Records.
func (r *FileRecords) Intend(_ context.Context, image string) (func() error, error) {
	name := path.Join(intentsDir, hashName(image)+"-"+randomHex()+".json")
	if err := r.write(name, intentFile{image}); err != nil {
		return nil, err
	}
	return func() error {
		if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("records: %w", err)
		}
		return nil
	}, nil
}

// Intents implements Records.
func (r *FileRecords) Intents(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		names, err := r.list(intentsDir)
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			var in intentFile
			err := r.read(name, &in)
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
func (r *FileRecords) Record(_ context.Context, id string) (Record, error) {
	var rec Record
	if err := r.read(recordFile(id), &rec); err != nil {
		return Record{}, err
	}
	if rec.ID != id {
		return Record{}, fmt.Errorf("records: %s is the record of %q, not of %q", recordFile(id), cutText(rec.ID), cutText(id))
	}
	return rec, nil
}

// Grant implements Records.
func (r *FileRecords) Grant(ctx context.Context, id, name string, access Access) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.Record(ctx, id)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// What cannot be read says nothing any more: it is written anew.
		rec = Record{}
	}
	if rec.Names == nil {
		rec = Record{ID: id, Names: map[string]Access{}}
	}
	rec.Names[name] = rec.Names[name].Merge(access)
	rec.Updated = time.Now().UTC()
	return r.write(recordFile(id), rec)
}

// Sweep implements Records. It goes on after errors and returns them joined.
// Notes of pulls that began more than a day before the given time are dropped,
// and so are temporary files that a crash has left. A record that cannot be read
// stays: without it the image would look like one that was always there.
func (r *FileRecords) Sweep(_ context.Context, before time.Time, stored func(id string) bool) error {
	before = before.Add(-clockLag)
	errs := []error{
		r.sweepDir(recordsDir, before, func(name string) bool {
			var rec Record
			err := r.read(name, &rec)
			return err != nil || stored(rec.ID)
		}),
		r.sweepDir(intentsDir, before.Add(-maxIntent), func(string) bool { return false }),
	}
	for _, dir := range []string{recordsDir, intentsDir} {
		errs = append(errs, r.sweepTemp(dir, before.Add(-time.Hour)))
	}
	return errors.Join(errs...)
}

// clockLag is more than the clock of a file system lags behind.
const clockLag = time.Second

// maxIntent is longer than any pull takes.
const maxIntent = 24 * time.Hour

func (r *FileRecords) sweepDir(dir string, before time.Time, keep func(name string) bool) error {
	names, err := r.list(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if info, err := r.root.Stat(name); err == nil && info.ModTime().Before(before) && !keep(name) {
			errs = append(errs, r.remove(name, before))
		}
	}
	return errors.Join(errs...)
}

// remove removes name if it was not written meanwhile.
func (r *FileRecords) remove(name string, before time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if info, err := r.root.Stat(name); err != nil || !info.ModTime().Before(before) {
		return nil
	}
	if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

func (r *FileRecords) sweepTemp(dir string, before time.Time) error {
	entries, err := fs.ReadDir(r.root.FS(), dir)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			errs = append(errs, r.remove(path.Join(dir, e.Name()), before))
		}
	}
	return errors.Join(errs...)
}

// list returns the files of dir that are records or intents.
func (r *FileRecords) list(dir string) ([]string, error) {
	entries, err := fs.ReadDir(r.root.FS(), dir)
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".json") && !strings.HasPrefix(e.Name(), tempPrefix) {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names, nil
}

func (r *FileRecords) read(name string, into any) error {
	f, err := r.root.Open(name)
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	switch {
	case err != nil:
		return fmt.Errorf("records: %w", err)
	case len(data) > maxRecord:
		return fmt.Errorf("records: %s is larger than %d bytes", name, maxRecord)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("records: %s: %w", name, err)
	}
	return nil
}

// write makes name hold v: whole, or not at all, and durable.
func (r *FileRecords) write(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("records: %w", err)
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
