package gc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A record has the times of an image that are remembered.
type record struct {
	first time.Time // when a round or a pull first saw it
	used  time.Time // when the image was last seen in use; zero = never
}

// merge returns a record with the earlier first and the later used of r and o.
func (r record) merge(o record) record {
	if r.first.IsZero() || !o.first.IsZero() && o.first.Before(r.first) {
		r.first = o.first
	}
	if o.used.After(r.used) {
		r.used = o.used
	}
	return r
}

// last returns when the image was last used or, if it was never used, first seen.
func (r record) last() time.Time {
	if r.used.After(r.first) {
		return r.used
	}
	return r.first
}

// Names of the files in Config.StateDir. If that directory belongs to a layout.Layout, the
// layout has its locks in the file lockName too, under other keys.
const (
	stateName = "gc.json"
	tempName  = "gc.json.new"
	lockName  = "lock"
	lockKey   = "gc"
)

// Limits of the state file.
const (
	maxStateSize = 64 << 20
	maxRecords   = 250_000 // more images than an index.json can have
	maxIDSize    = 1 << 10 // images with a longer ID are not remembered
)

// A stateDir keeps records in a file of a directory. The file is read and replaced as a
// whole. A process holds a lock from the read to the write, so that processes that share
// the file do not overwrite each other's records.
type stateDir struct {
	dir  string
	open func() (disk.FS, error)
}

func newStateDir(dir string) *stateDir {
	return &stateDir{dir: dir, open: func() (disk.FS, error) { return disk.Open(dir) }}
}

// exists reports whether the directory exists. It does not make the directory, as open
// does.
func (s *stateDir) exists() bool {
	_, err := os.Stat(s.dir)
	return !errors.Is(err, fs.ErrNotExist)
}

// fail returns the error for a state file that cannot be used.
func (s *stateDir) fail(err error) error {
	return fmt.Errorf("the state file %q: %w; if the file is damaged, move it away, and all images count as new", filepath.Join(s.dir, stateName), err)
}

// lock takes the lock that processes share. It waits for the lock until ctx ends.
func (s *stateDir) lock(ctx context.Context) (fsys disk.FS, unlock func(), err error) {
	fsys, err = s.open()
	if err != nil {
		return nil, nil, fmt.Errorf("the state directory %q: %w", s.dir, err)
	}
	busyUntil := time.Now().Add(disk.BusyFor)
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		release, err := fsys.TryLock(lockName, lockKey)
		if err == nil {
			return fsys, func() { release(); fsys.Close() }, nil
		}
		if !errors.Is(err, disk.ErrLocked) && !(errors.Is(err, disk.ErrBusy) && time.Now().Before(busyUntil)) {
			fsys.Close()
			return nil, nil, fmt.Errorf("the state directory %q: lock: %w", s.dir, err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			fsys.Close()
			return nil, nil, fmt.Errorf("waited for another process that collects images with the state directory %q: %w", s.dir, context.Cause(ctx))
		}
	}
}

// While another process has the lock, lock asks for it again after a wait, which doubles
// from lockPollMin up to lockPollMax.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
)

// read returns the records in the file. A time after now becomes now, because the clock
// may have been set back.
func (s *stateDir) read(fsys disk.FS, now time.Time) (map[string]record, error) {
	f, err := fsys.OpenFile(stateName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[string]record), nil
	}
	if err != nil {
		return nil, s.fail(err)
	}
	defer f.Close()
	info, err := f.Stat()
	var data []byte
	if err == nil && info.Size() <= maxStateSize {
		data, err = io.ReadAll(io.LimitReader(f, maxStateSize+1))
	}
	if err == nil && (info.Size() > maxStateSize || len(data) > maxStateSize) {
		err = fmt.Errorf("it has more than %d bytes", maxStateSize)
	}
	var records map[string]record
	if err == nil {
		records, err = parseState(data, now)
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return records, nil
}

// stateVersion is the version of the state file's format.
const stateVersion = 1

// parseState reads a state file:
//
//	{"version":1,"images":{"sha256:...":{"firstSeen":"2026-11-29T12:00:00Z","lastUsed":"..."}}}
//
// Its errors do not quote the file.
func parseState(data []byte, now time.Time) (map[string]record, error) {
	records, version := make(map[string]record), int64(0)
	err := strictjson.Decode(data, strictjson.Limits{Depth: 8}, func(r *strictjson.Reader) error {
		if r.Null() {
			return r.Fail("want an object")
		}
		return r.Object([]string{"version", "images"}, func(key string) (err error) {
			if key == "version" {
				version, err = r.Int64()
				return err
			}
			return r.Members(func(id string) error {
				if _, twice := records[id]; twice {
					return r.Fail("an image is listed twice")
				}
				if len(records) == maxRecords || len(id) > maxIDSize {
					return r.Fail("too many images, or an ID that is too long")
				}
				rec, err := readRecord(r, now)
				records[id] = rec
				return err
			})
		})
	})
	switch {
	case err != nil:
		return nil, err
	case version != stateVersion:
		return nil, fmt.Errorf("its version is %d, and only version %d is known", version, stateVersion)
	}
	return records, nil
}

func readRecord(r *strictjson.Reader, now time.Time) (rec record, err error) {
	if r.Null() {
		return rec, r.Fail("want an object")
	}
	err = r.Object([]string{"firstSeen", "lastUsed"}, func(key string) error {
		text, err := r.String()
		if err != nil {
			return err
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil || at.IsZero() {
			return r.Fail("want a time, as 2026-11-29T12:00:00Z")
		}
		if at.After(now) {
			at = now
		}
		if key == "firstSeen" {
			rec.first = at
		} else {
			rec.used = at
		}
		return nil
	})
	if err == nil && rec.first.IsZero() {
		err = r.Fail("the time firstSeen is missing")
	}
	return rec, err
}

type stateFile struct {
	Version int                    `json:"version"`
	Images  map[string]stateRecord `json:"images"`
}

type stateRecord struct {
	FirstSeen time.Time `json:"firstSeen"`
	LastUsed  time.Time `json:"lastUsed,omitzero"`
}

// write replaces the file, durably. After an error or a crash the file has its old content
// or the whole new content.
func (s *stateDir) write(fsys disk.FS, records map[string]record) error {
	out := stateFile{stateVersion, make(map[string]stateRecord, len(records))}
	for id, rec := range records {
		if len(id) <= maxIDSize && utf8.ValidString(id) && len(out.Images) < maxRecords {
			out.Images[id] = stateRecord{rec.first.UTC(), rec.used.UTC()}
		}
	}
	data, err := json.Marshal(out)
	if err == nil && len(data) > maxStateSize {
		err = fmt.Errorf("it would have %d bytes, more than the limit of %d", len(data), maxStateSize)
	}
	if err == nil {
		err = replaceFile(fsys, data)
	}
	if err != nil {
		return fmt.Errorf("the state file %q was not written: %w", filepath.Join(s.dir, stateName), err)
	}
	return nil
}

func replaceFile(fsys disk.FS, data []byte) error {
	if err := fsys.Remove(tempName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // remove the file of a process that was killed
	}
	f, err := fsys.OpenFile(tempName, disk.NewFile)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = disk.WhileBusy(func() error { return fsys.Rename(tempName, stateName) })
	}
	if err != nil {
		fsys.Remove(tempName)
		return err
	}
	return fsys.SyncDir(".")
}
