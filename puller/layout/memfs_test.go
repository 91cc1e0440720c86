package layout

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const memPage = 4096

// A memDisk is a file system in memory that keeps apart what programs see and
// what would be there after a loss of power. Each use of it by one process is a memFS.
type memDisk struct {
	mu      sync.Mutex
	names   map[string]*inode // as programs see it
	durable map[string]*inode
	pending []nameOp // changes of names that no sync has made durable, in order
	locks   map[string]*memFS
	inodes  uint64
	clock   time.Time
	stopped bool // the clock
}

type inode struct {
	id    uint64
	dir   bool
	data  []byte
	mtime time.Time
	atime time.Time

	synced      []byte // what is on disk
	syncedMtime time.Time
	dirty       map[int]bool // pages written since
	forgotten   bool         // a sync failed: what was written never gets to the disk
}

// A nameOp gives a name to an inode, or takes it away (nil).
type nameOp struct {
	name string
	ino  *inode
}

func newMemDisk() *memDisk {
	d := &memDisk{locks: make(map[string]*memFS), clock: time.Now()}
	root := &inode{id: 1, dir: true}
	d.inodes = 1
	d.names = map[string]*inode{".": root}
	d.durable = map[string]*inode{".": root}
	return d
}

func (d *memDisk) now() time.Time {
	if !d.stopped {
		d.clock = d.clock.Add(time.Millisecond)
	}
	return d.clock
}

func (d *memDisk) set(name string, ino *inode) {
	if ino == nil {
		delete(d.names, name)
	} else {
		d.names[name] = ino
	}
	d.pending = append(d.pending, nameOp{name, ino})
	if parent := d.names[path.Dir(name)]; parent != nil {
		parent.mtime = d.now()
	}
}

// flushNames makes pending changes durable for which keep says so.
func (d *memDisk) flushNames(keep func(nameOp) bool) {
	rest := d.pending[:0:0]
	for _, op := range d.pending {
		if !keep(op) {
			rest = append(rest, op)
			continue
		}
		if op.ino == nil {
			delete(d.durable, op.name)
		} else {
			d.durable[op.name] = op.ino
		}
	}
	d.pending = rest
}

func (ino *inode) sync() {
	if ino.forgotten {
		return
	}
	ino.synced = slices.Clone(ino.data)
	ino.syncedMtime = ino.mtime
	ino.dirty = nil
}

// crash is the disk after a loss of power: what was synced, and of the rest
// what keep says, change by change and page by page, in any combination.
func (d *memDisk) crash(keep func() bool) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushNames(func(nameOp) bool { return keep() })
	after := newMemDisk()
	after.clock, after.inodes = d.clock, d.inodes
	after.names = make(map[string]*inode)
	copied := make(map[*inode]*inode)
	for name, ino := range d.durable {
		if copied[ino] == nil {
			copied[ino] = ino.afterCrash(keep)
		}
		after.names[name] = copied[ino]
	}
	for changed := true; changed; { // names in directories that are lost are lost
		changed = false
		for name := range after.names {
			if parent := after.names[path.Dir(name)]; name != "." && (parent == nil || !parent.dir) {
				delete(after.names, name)
				changed = true
			}
		}
	}
	after.durable = make(map[string]*inode)
	for name, ino := range after.names {
		after.durable[name] = ino
	}
	return after
}

func (ino *inode) afterCrash(keep func() bool) *inode {
	c := &inode{id: ino.id, dir: ino.dir, mtime: ino.syncedMtime, atime: ino.atime}
	if ino.dir {
		return c
	}
	if keep() {
		c.mtime = ino.mtime
	}
	size := len(ino.synced)
	if len(ino.dirty) > 0 && keep() {
		size = len(ino.data)
	}
	c.data = make([]byte, size)
	copy(c.data, ino.synced)
	for page := range ino.dirty {
		from, to := page*memPage, min((page+1)*memPage, len(ino.data), size)
		if from < to && keep() {
			copy(c.data[from:to], ino.data[from:to])
		}
	}
	c.sync()
	return c
}

// keepAll is the crash of a process alone; keepNone and keepSome those of the machine.
func keepAll() bool  { return true }
func keepNone() bool { return false }
func keepSome(seed uint64) func() bool {
	r := rand.New(rand.NewPCG(seed, 17))
	share := r.Float64()
	return func() bool { return r.Float64() < share }
}

// A memFS is one process's use of a memDisk.
type memFS struct{ d *memDisk }

var _ fsys = (*memFS)(nil)

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (m *memFS) parent(op, name string) error {
	if p := m.d.names[path.Dir(name)]; p == nil || !p.dir {
		return pathErr(op, name, syscall.ENOENT)
	}
	return nil
}

func (m *memFS) Lstat(name string) (fs.FileInfo, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	ino := m.d.names[name]
	if ino == nil {
		return nil, pathErr("lstat", name, syscall.ENOENT)
	}
	return ino.info(name), nil
}

func (m *memFS) OpenFile(name string, flag int) (file, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	ino := m.d.names[name]
	switch {
	case ino == nil && flag&os.O_CREATE == 0:
		return nil, pathErr("open", name, syscall.ENOENT)
	case ino == nil:
		if err := m.parent("open", name); err != nil {
			return nil, err
		}
		m.d.inodes++
		now := m.d.now()
		ino = &inode{id: m.d.inodes, mtime: now, atime: now}
		m.d.set(name, ino)
	case flag&os.O_EXCL != 0:
		return nil, pathErr("open", name, syscall.EEXIST)
	case ino.dir:
		return nil, pathErr("open", name, errNotRegular)
	}
	return &memFile{m: m, ino: ino, name: name}, nil
}

func (m *memFS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if ino := m.d.names[name]; ino == nil || !ino.dir {
		return nil, pathErr("readdir", name, syscall.ENOENT)
	}
	var entries []fs.DirEntry
	for n, ino := range m.d.names {
		if n != "." && path.Dir(n) == name {
			entries = append(entries, fs.FileInfoToDirEntry(ino.info(n)))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (m *memFS) Mkdir(name string) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.names[name] != nil {
		return pathErr("mkdir", name, syscall.EEXIST)
	}
	if err := m.parent("mkdir", name); err != nil {
		return err
	}
	m.d.inodes++
	m.d.set(name, &inode{id: m.d.inodes, dir: true})
	return nil
}

func (m *memFS) CheckDir(name string) error {
	fi, err := m.Lstat(name)
	if err == nil && !fi.IsDir() {
		err = pathErr("lstat", name, syscall.ENOTDIR)
	}
	return err
}

func (m *memFS) Rename(from, to string) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	ino := m.d.names[from]
	if ino == nil {
		return pathErr("rename", from, syscall.ENOENT)
	}
	if err := m.parent("rename", to); err != nil {
		return err
	}
	m.d.set(to, ino)
	m.d.set(from, nil)
	return nil
}

func (m *memFS) Remove(name string) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.names[name] == nil {
		return pathErr("remove", name, syscall.ENOENT)
	}
	m.d.set(name, nil)
	return nil
}

func (m *memFS) Chtimes(name string, now, mtime time.Time) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	ino := m.d.names[name]
	if ino == nil {
		return pathErr("chtimes", name, syscall.ENOENT)
	}
	ino.atime, ino.mtime = now, mtime
	return nil
}

func (m *memFS) SyncDir(name string) error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.flushNames(func(op nameOp) bool { return path.Dir(op.name) == name })
	return nil
}

func (m *memFS) SyncFS() error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.flushNames(func(nameOp) bool { return true })
	for _, ino := range m.d.names {
		ino.sync()
	}
	return nil
}

func (m *memFS) TryLock(key string) (func() error, error) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.d.locks[key] != nil {
		return nil, errLocked
	}
	m.d.locks[key] = m
	return func() error {
		m.d.mu.Lock()
		defer m.d.mu.Unlock()
		delete(m.d.locks, key)
		return nil
	}, nil
}

func (m *memFS) SameFile(a, b fs.FileInfo) bool {
	return a.(memInfo).id == b.(memInfo).id
}

func (m *memFS) Busy(error) bool                   { return false }
func (m *memFS) NeedsWriting(error) bool           { return false }
func (m *memFS) Accessed(fi fs.FileInfo) time.Time { return fi.(memInfo).atime }
func (m *memFS) Free() (int64, error)              { return 1 << 40, nil }

// Close ends the process: its locks end with it.
func (m *memFS) Close() error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	for key, owner := range m.d.locks {
		if owner == m {
			delete(m.d.locks, key)
		}
	}
	return nil
}

type memFile struct {
	m    *memFS
	ino  *inode
	name string
	at   int64
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.d.mu.Lock()
	defer f.m.d.mu.Unlock()
	if off >= int64(len(f.ino.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.ino.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.d.mu.Lock()
	defer f.m.d.mu.Unlock()
	ino := f.ino
	if grow := off + int64(len(p)) - int64(len(ino.data)); grow > 0 {
		ino.data = append(ino.data, make([]byte, grow)...)
	}
	copy(ino.data[off:], p)
	if ino.dirty == nil {
		ino.dirty = make(map[int]bool)
	}
	for page := off / memPage; page*memPage < off+int64(len(p)); page++ {
		ino.dirty[int(page)] = true
	}
	ino.mtime = f.m.d.now()
	return len(p), nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.m.d.mu.Lock()
	defer f.m.d.mu.Unlock()
	return f.ino.info(f.name), nil
}

func (f *memFile) Sync() error {
	f.m.d.mu.Lock()
	defer f.m.d.mu.Unlock()
	f.ino.sync()
	return nil
}

func (f *memFile) WriteBack() {}

func (f *memFile) Close() error { return nil }

type memInfo struct {
	name         string
	id           uint64
	size         int64
	dir          bool
	mtime, atime time.Time
}

func (ino *inode) info(name string) memInfo {
	return memInfo{path.Base(name), ino.id, int64(len(ino.data)), ino.dir, ino.mtime, ino.atime}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.mtime }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
