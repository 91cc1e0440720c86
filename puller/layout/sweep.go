package layout

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

// sweepEvery is how often a layout that stays open looks for left-overs.
const sweepEvery = time.Hour

// sweepNow sweeps if it is time to.
func (l *Layout) sweepNow() {
	// More than sweepEvery ahead it is since the clock was set back.
	if wait := l.nextSweep.Load() - l.cfg.Now().UnixNano(); wait <= 0 || wait > int64(sweepEvery) {
		l.sweep()
	}
}

// sweep removes partials, temporaries and locks that nobody wrote to for
// PartialAge. Those in use are locked, or young. It is a courtesy: what goes
// wrong is logged.
func (l *Layout) sweep() {
	if l.cfg.PartialAge < 0 {
		return
	}
	l.nextSweep.Store(l.cfg.Now().Add(sweepEvery).UnixNano())
	l.sweepOlder(l.cfg.PartialAge)
}

func (l *Layout) sweepOlder(age time.Duration) {
	now := l.cfg.Now()
	limit := now.Add(-age)
	for _, dir := range []string{stateDir, ingestDir} {
		entries, err := l.fs.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("left-overs were not looked for", "error", err)
		}
		l.sweepEntries(dir, entries, limit, now)
	}
}

func (l *Layout) sweepEntries(dir string, entries []fs.DirEntry, limit, now time.Time) {
	swept := make(map[string]bool)
	for _, e := range entries {
		name := dir + "/" + e.Name()
		switch base, suffix := cutSuffix(e.Name()); {
		case suffix == partSuffix || suffix == listSuffix:
			if !swept[base] {
				swept[base] = true
				l.sweepPartial(dir, base, limit, now)
			}
		case suffix == disk.LockSuffix:
			if l.old(name, limit) {
				l.sweepLock(name, base)
			}
		case strings.HasPrefix(e.Name(), tempBase) && l.old(name, limit),
			dir == stateDir && suffix == newSuffix && l.old(name, limit): // where former versions had them
			l.log.Info("a left-over is removed", "name", name)
			l.fs.Remove(name)
		}
	}
}

func cutSuffix(name string) (base, suffix string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// sweepPartial removes a partial and its list if both are old and nobody has the lock.
//
// A partial with the stamp was about to become a blob when its process died, and its
// time of modification does not say when that was. It gets the present time, so that
// a later sweep removes it, unless partials of all ages are to go.
func (l *Layout) sweepPartial(dir, base string, limit, now time.Time) {
	part, list := dir+"/"+base+partSuffix, dir+"/"+base+listSuffix
	if !l.old(part, limit) || !l.old(list, limit) {
		return
	}
	key := keyOf(base)
	unlock, ok := l.tryLock(key)
	if !ok {
		return
	}
	defer unlock()
	if !l.old(part, limit) || !l.old(list, limit) {
		return
	}
	if fi, err := l.fs.Lstat(part); err == nil && fi.ModTime().Equal(stamp) && limit.Before(now) {
		if err := l.fs.Chtimes(part, now, now); err != nil {
			l.log.Debug("the age of a partial blob is not known", "digest", key, "error", err)
		}
		return
	}
	l.log.Info("an old partial blob is removed", "digest", key)
	if err := l.fs.Remove(part); err == nil || errors.Is(err, fs.ErrNotExist) {
		l.fs.Remove(list) // after it: see removeFiles
	}
}

// sweepLock removes a lock file that nobody holds.
func (l *Layout) sweepLock(name, base string) {
	unlock, ok := l.tryLock(keyOf(base))
	if !ok {
		return
	}
	defer unlock()
	l.log.Info("a left-over is removed", "name", name)
	l.fs.Remove(name)
}

// keyOf is the lock of what has that name in the state directory.
func keyOf(base string) string { return strings.Replace(base, "-", ":", 1) }

// old reports whether a file was not written to since limit. One that is not
// there is old.
func (l *Layout) old(name string, limit time.Time) bool {
	fi, err := l.fs.Lstat(name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !fi.ModTime().After(limit)
}
