// Package disktest contains a file system in memory for tests, and a wrapper that makes
// the operations of any disk.FS fail.
package disktest

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

	"github.com/pullkit/pullkit/internal/disk"
)

// pageSize is the size of a page. After a crash, each page of a file is on disk as a
// whole or not at all.
const pageSize = 4096

// A Disk is a file system in memory. It holds two states: what programs see, and what
// would be on disk after a loss of power. Process returns the Disk as one process uses
// it; Crash returns the Disk after a loss of power. New returns an empty Disk.
type Disk struct {
	mu      sync.Mutex
	names   map[string]*inode // as programs see them
	durable map[string]*inode
	pending []nameOp // changes of names that no sync has made durable, in order
	locks   map[string]*process
	inodes  uint64
	clock   time.Time
	stopped bool // whether the clock is stopped; see StopClock
}

type inode struct {
	id    uint64
	dir   bool
	data  []byte
	mtime time.Time
	atime time.Time

	synced      []byte // what is on disk
	syncedMtime time.Time
	dirty       map[int]bool // pages that were written after the last sync
	forgotten   bool         // a sync failed, so what was written never gets to the disk
}

// A nameOp gives a name to an inode, or removes the name if the inode is nil.
type nameOp struct {
	name string
	ino  *inode
}

// New returns an empty Disk.
func New() *Disk {
	d := &Disk{locks: make(map[string]*process), clock: time.Now()}
	root := &inode{id: 1, dir: true}
	d.inodes = 1
	d.names = map[string]*inode{".": root}
	d.durable = map[string]*inode{".": root}
	return d
}

func (d *Disk) now() time.Time {
	if !d.stopped {
		d.clock = d.clock.Add(time.Millisecond)
	}
	return d.clock
}

func (d *Disk) set(name string, ino *inode) {
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

// flushNames makes those pending changes durable for which keep returns true.
func (d *Disk) flushNames(keep func(nameOp) bool) {
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

// Crash returns the disk as it is after a loss of power. It has everything that was
// synced. Of what was not synced, it has the changes of names and the pages for which
// keep returns true. Crash calls keep once for each of them.
func (d *Disk) Crash(keep func() bool) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushNames(func(nameOp) bool { return keep() })
	after := New()
	after.clock, after.inodes = d.clock, d.inodes
	after.names = make(map[string]*inode)
	copied := make(map[*inode]*inode)
	for name, ino := range d.durable {
		if copied[ino] == nil {
			copied[ino] = ino.afterCrash(keep)
		}
		after.names[name] = copied[ino]
	}
	for changed := true; changed; { // a name in a lost directory is also lost
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
		from, to := page*pageSize, min((page+1)*pageSize, len(ino.data), size)
		if from < to && keep() {
			copy(c.data[from:to], ino.data[from:to])
		}
	}
	c.sync()
	return c
}

// KeepAll is an argument of Crash for a process that dies while the machine runs on: the
// system still has everything that was written.
func KeepAll() bool { return true }

// KeepNone is an argument of Crash for a loss of power that loses everything that was not
// synced.
func KeepNone() bool { return false }

// KeepSome returns an argument of Crash for a loss of power that keeps a random part of
// what was not synced.
func KeepSome(seed uint64) func() bool {
	r := rand.New(rand.NewPCG(seed, 17))
	share := r.Float64()
	return func() bool { return r.Float64() < share }
}

// StopClock stops the clock of the disk: all later changes of files have the same time.
func (d *Disk) StopClock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}

// Flip changes the first byte of a file and leaves the file's times, as a fault of a real
// disk does.
func (d *Disk) Flip(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name].data[0] ^= 1
}

// Locked reports whether a process has the lock of key, or any lock if key is "".
func (d *Disk) Locked(key string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if key == "" {
		return len(d.locks) > 0
	}
	return d.locks[key] != nil
}

// Process returns the disk as one process uses it. Close of that FS is the end of the
// process, and releases its locks.
func (d *Disk) Process() disk.FS { return &process{d} }

type process struct{ d *Disk }

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (p *process) parent(op, name string) error {
	if dir := p.d.names[path.Dir(name)]; dir == nil || !dir.dir {
		return pathErr(op, name, syscall.ENOENT)
	}
	return nil
}

func (p *process) Lstat(name string) (fs.FileInfo, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	ino := p.d.names[name]
	if ino == nil {
		return nil, pathErr("lstat", name, syscall.ENOENT)
	}
	return ino.info(name), nil
}

func (p *process) OpenFile(name string, flag int) (disk.File, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	ino := p.d.names[name]
	switch {
	case ino == nil && flag&os.O_CREATE == 0:
		return nil, pathErr("open", name, syscall.ENOENT)
	case ino == nil:
		if err := p.parent("open", name); err != nil {
			return nil, err
		}
		p.d.inodes++
		now := p.d.now()
		ino = &inode{id: p.d.inodes, mtime: now, atime: now}
		p.d.set(name, ino)
	case flag&os.O_EXCL != 0:
		return nil, pathErr("open", name, syscall.EEXIST)
	case ino.dir:
		return nil, pathErr("open", name, disk.ErrNotRegular)
	}
	return &file{p: p, ino: ino, name: name}, nil
}

func (p *process) ReadDir(name string) ([]fs.DirEntry, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if ino := p.d.names[name]; ino == nil || !ino.dir {
		return nil, pathErr("readdir", name, syscall.ENOENT)
	}
	var entries []fs.DirEntry
	for n, ino := range p.d.names {
		if n != "." && path.Dir(n) == name {
			entries = append(entries, fs.FileInfoToDirEntry(ino.info(n)))
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (p *process) Mkdir(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.names[name] != nil {
		return pathErr("mkdir", name, syscall.EEXIST)
	}
	if err := p.parent("mkdir", name); err != nil {
		return err
	}
	p.d.inodes++
	p.d.set(name, &inode{id: p.d.inodes, dir: true})
	return nil
}

func (p *process) CheckDir(name string) error {
	fi, err := p.Lstat(name)
	if err == nil && !fi.IsDir() {
		err = pathErr("lstat", name, syscall.ENOTDIR)
	}
	return err
}

func (p *process) Rename(from, to string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	ino := p.d.names[from]
	if ino == nil {
		return pathErr("rename", from, syscall.ENOENT)
	}
	if err := p.parent("rename", to); err != nil {
		return err
	}
	p.d.set(to, ino)
	p.d.set(from, nil)
	return nil
}

func (p *process) Remove(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.names[name] == nil {
		return pathErr("remove", name, syscall.ENOENT)
	}
	p.d.set(name, nil)
	return nil
}

func (p *process) Chtimes(name string, now, mtime time.Time) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	ino := p.d.names[name]
	if ino == nil {
		return pathErr("chtimes", name, syscall.ENOENT)
	}
	ino.atime, ino.mtime = now, mtime
	return nil
}

func (p *process) SyncDir(name string) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.flushNames(func(op nameOp) bool { return path.Dir(op.name) == name })
	return nil
}

func (p *process) SyncFS() error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.flushNames(func(nameOp) bool { return true })
	for _, ino := range p.d.names {
		ino.sync()
	}
	return nil
}

func (p *process) TryLock(_, key string) (func() error, error) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.locks[key] != nil {
		return nil, disk.ErrLocked
	}
	p.d.locks[key] = p
	return func() error {
		p.d.mu.Lock()
		defer p.d.mu.Unlock()
		delete(p.d.locks, key)
		return nil
	}, nil
}

func (p *process) SameFile(a, b fs.FileInfo) bool {
	return a.(info).id == b.(info).id
}

func (p *process) Accessed(fi fs.FileInfo) time.Time { return fi.(info).atime }
func (p *process) Free() (int64, error)              { return 1 << 40, nil }

func (p *process) Close() error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	for key, owner := range p.d.locks {
		if owner == p {
			delete(p.d.locks, key)
		}
	}
	return nil
}

type file struct {
	p    *process
	ino  *inode
	name string
	at   int64
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Seek sets the offset of the next Read.
func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += int64(len(f.ino.data))
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	f.at = offset
	return offset, nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	if off >= int64(len(f.ino.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.ino.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	ino := f.ino
	if grow := off + int64(len(p)) - int64(len(ino.data)); grow > 0 {
		ino.data = append(ino.data, make([]byte, grow)...)
	}
	copy(ino.data[off:], p)
	if ino.dirty == nil {
		ino.dirty = make(map[int]bool)
	}
	for page := off / pageSize; page*pageSize < off+int64(len(p)); page++ {
		ino.dirty[int(page)] = true
	}
	ino.mtime = f.p.d.now()
	return len(p), nil
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	return f.ino.info(f.name), nil
}

func (f *file) Sync() error {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	f.ino.sync()
	return nil
}

func (f *file) WriteBack() {}

// Reserve does nothing, because the room on a Disk has no limit.
func (f *file) Reserve(int64, int64) error { return nil }

func (f *file) Close() error { return nil }

type info struct {
	name         string
	id           uint64
	size         int64
	dir          bool
	mtime, atime time.Time
}

func (ino *inode) info(name string) fs.FileInfo {
	return info{path.Base(name), ino.id, int64(len(ino.data)), ino.dir, ino.mtime, ino.atime}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
