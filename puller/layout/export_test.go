package layout

import (
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/puller/content"
)

// OpenDisk is Open for a given disk.
func OpenDisk(dir string, fsys disk.FS, cfg Config) (*Layout, error) { return openFS(dir, fsys, cfg) }

// Limits are limits in bytes that tests set lower, so that blobs of some KiB are treated
// like large ones. Zero means the limit that Open sets.
type Limits struct {
	ListEvery      int64 // how much a killed process may lose of a blob with gaps
	WriteBackEvery int64
	SmallBlob      int64 // the largest size of a blob that shares a sync with others
	IndexSize      int   // the largest size of index.json
}

// SetLimits sets the limits of a layout that nothing uses yet.
func (l *Layout) SetLimits(to Limits) {
	for limit, v := range map[*int64]int64{
		&l.tune.listEvery: to.ListEvery, &l.tune.writeBackEvery: to.WriteBackEvery, &l.tune.smallBlob: to.SmallBlob,
	} {
		if v != 0 {
			*limit = v
		}
	}
	if to.IndexSize != 0 {
		l.tune.indexSize = to.IndexSize
	}
}

// Abandon releases the lock of an ingest and does nothing else, as the end of its process
// does.
func Abandon(in content.Ingest) { in.(*ingest).unlock() }
