package layout

import (
	"errors"
	"io/fs"
	"os"

	"github.com/pullkit/pullkit/internal/disk"
)

// replace writes a file as a whole: whoever reads it sees the former content or
// this. It is durable when replace returns. The caller holds indexLock.
func (l *Layout) replace(name string, data []byte) error {
	temp := tempName(name)
	f, _, err := l.writeFile(temp, data)
	if err != nil {
		return err
	}
	err = f.Close()
	if err == nil {
		err = l.rename(temp, name)
	}
	if err != nil {
		l.fs.Remove(temp)
		return err
	}
	return l.fs.SyncDir(".")
}

// tempName is what a file is called before it is name.
func tempName(name string) string { return ingestDir + "/" + name + newSuffix }

// writeFile makes a file with that content, synced, and leaves it open; its name
// is not synced. After an error there is none.
func (l *Layout) writeFile(name string, data []byte) (f disk.File, info fs.FileInfo, err error) {
	f, err = l.createFresh(name)
	if err != nil {
		return nil, nil, err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		info, err = f.Stat()
	}
	if err != nil {
		f.Close()
		l.fs.Remove(name)
		return nil, nil, err
	}
	return f, info, nil
}

// createFresh makes an empty file; what had that name before, a link or a left-over, is removed.
func (l *Layout) createFresh(name string) (disk.File, error) {
	f, err := l.fs.OpenFile(name, disk.NewFile)
	if errors.Is(err, fs.ErrExist) {
		if err := l.fs.Remove(name); err != nil {
			return nil, err
		}
		f, err = l.fs.OpenFile(name, disk.NewFile)
	}
	return f, err
}

// read reads a small file that is no link.
func (l *Layout) read(name string, limit int64) ([]byte, error) {
	f, err := l.fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, name, limit)
}
