package rootfs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/moby/sys/userns"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// A Config holds the settings of Unpack and Pull. The zero Config makes a root file system
// without devices.
type Config struct {
	// Devices makes the character and block devices of the image. Without it, they are left
	// out, and counted in Dropped.Devices. They are left out and counted too if the process is
	// not root, or is in a user namespace, because it cannot make devices there. A process that
	// can open a device of the machine can read and write it, and so bypass the permissions of
	// the files on it.
	Devices bool
	// NoSync returns without waiting until the files are on disk. Files may then be missing
	// after a loss of power, so a call after the next boot of the machine refuses the directory
	// with ErrTaken. Before that boot, calls use the directory as it is, without a sync, even if
	// they do not have NoSync.
	NoSync bool
	// MaxFiles is the most entries that all layers together may have. Zero means 2,000,000.
	MaxFiles int
	// MaxBytes is the most bytes that the files of all layers together may have. The holes of
	// sparse files count, and so do files that later layers replace. Zero means 1 TiB.
	MaxBytes int64
	// MaxRatio limits how many bytes a layer may unpack to: MaxRatio times the size of the
	// layer's blob, plus 1 MiB. Zero means 200.
	MaxRatio int
}

// A Result says what a root file system was made of. Its JSON form is in the file .pullkit.
type Result struct {
	Manifest digest.Digest `json:"manifest"`
	// Config describes the image's config, which says how to run it. Only its media type, digest
	// and size are set.
	Config ocispec.Descriptor `json:"config"`
	Layers int                `json:"layers"` // number of layers
	Files  int                `json:"files"`  // entries of all layers
	Bytes  int64              `json:"bytes"`  // of the files of all layers
	// SetID counts the entries, directories included, that got set-user-ID or set-group-ID bits.
	SetID   int     `json:"setID,omitempty"`
	Dropped Dropped `json:"dropped,omitzero"`
	// Present says that an earlier call has made the directory.
	Present bool `json:"-"`
}

// Dropped counts what the layers have and the root file system does not have, because the
// process is not root, or the Config does not ask for it.
type Dropped struct {
	Owners  int `json:"owners,omitempty"`  // entries that belong to the user of the process instead of their owner
	XAttrs  int `json:"xattrs,omitempty"`  // extended attributes
	SetID   int `json:"setID,omitempty"`   // entries without their set-user-ID or set-group-ID bits
	Devices int `json:"devices,omitempty"` // devices
}

// Unpack makes the root file system of an image as the directory rootfs in dir. manifest
// describes the image, whose blobs are in store. If manifest describes an index, exactly one
// manifest of the index must be stored.
//
// Unpack makes dir, with the mode 0700. If an earlier call has made dir of the same image with
// the same Config.Devices, Unpack writes nothing, and returns the Result of that call with
// Present set. Missing directories above dir are made. The last element of dir must have at
// most 242 bytes, and must not end in .pullkit or .pullkit.old.
//
// The package comment says what the root file system has, what is refused, and what holds
// after a crash.
//
// Errors are of type *Error, except that of a ctx which has ended. After an error, dir is as
// it was before the call, with one exception: if the directory above dir cannot be synced,
// Unpack returns an error although dir is whole, and dir may be lost with the next loss of
// power.
func Unpack(ctx context.Context, store content.Store, manifest ocispec.Descriptor, dir string, cfg Config) (Result, error) {
	u := &unpacker{
		store: store, cfg: cfg, dir: dir,
		wait:  func(context.Context, ocispec.Descriptor) error { return nil },
		ready: func(context.Context) error { return nil },
	}
	return u.run(ctx, manifest)
}

// An unpacker is one call of Unpack.
type unpacker struct {
	store content.Store
	cfg   Config
	dir   string
	wait  func(context.Context, ocispec.Descriptor) error // returns when the Store has a blob
	ready func(context.Context) error                     // returns when the directory may appear

	before func(op, name string) error // for tests
}

func (u *unpacker) run(ctx context.Context, manifest ocispec.Descriptor) (Result, error) {
	result, err := u.result(ctx, manifest)
	var panicked *panics.Error
	if errors.As(err, &panicked) {
		panicked.Raise()
	}
	if err != nil {
		return Result{}, u.fail(ctx, err)
	}
	return result, nil
}

// fail returns err as Unpack returns it: as an *Error, or as the cause of a ctx that has ended.
func (u *unpacker) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return context.Cause(ctx)
	}
	failed := &Error{Dir: u.dir, Err: err}
	for e, ok := err.(*Error); ok; e, ok = e.Err.(*Error) {
		failed.Err = e.Err
		failed.Layer = cmp.Or(e.Layer, failed.Layer)
		failed.File = cmp.Or(e.File, failed.File)
	}
	failed.Err = foreign(failed.Err)
	return failed
}

// result makes the directory, or reads what an earlier call has written about it.
func (u *unpacker) result(ctx context.Context, manifest ocispec.Descriptor) (Result, error) {
	if err := u.complete(); err != nil {
		return Result{}, err
	}
	manifest, err := ocilayout.ImageToUnpack(ctx, u.store, manifest)
	if err != nil {
		return Result{}, err
	}
	w, err := newdir.New(newdir.Config{
		Dir: u.dir, Mode: 0o700, IsKey: isKey, Taken: ErrTaken, BadName: ErrBadName, Before: u.before, NoSync: u.cfg.NoSync,
	})
	if err != nil {
		return Result{}, err
	}
	defer w.Close()
	key := key{Version: markVersion, Manifest: manifest.Digest, Devices: u.cfg.Devices}
	if r, found, err := present(w, key); found || err != nil {
		return r, err
	}
	r := Result{Manifest: manifest.Digest}
	layers, err := u.layers(ctx, manifest, &r)
	if err != nil {
		return Result{}, err
	}
	for {
		if err := w.Lock(ctx); err != nil {
			return Result{}, err
		}
		made, found, err := present(w, key)
		if err == nil && !found {
			made, err = u.make(ctx, w, key, layers, r)
		}
		w.Remove()
		if !errors.Is(err, newdir.ErrAppeared) {
			return made, err
		}
	}
}

// complete checks the settings and sets those that are zero.
func (u *unpacker) complete() error {
	c := &u.cfg
	if c.MaxFiles < 0 || c.MaxBytes < 0 || c.MaxRatio < 0 {
		return errors.New("a limit of the Config is negative")
	}
	c.MaxFiles = cmp.Or(c.MaxFiles, 2_000_000)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<40)
	c.MaxRatio = cmp.Or(c.MaxRatio, 200)
	if runtime.GOOS == "windows" {
		return errors.ErrUnsupported // the names, links and owners of a layer are those of Unix
	}
	return nil
}

// document returns the verified bytes of a manifest or a config: desc.Data, or the content in
// the Store if desc does not have Data.
func (u *unpacker) document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Data == nil {
		return ocilayout.ReadVerified(ctx, u.store, desc)
	}
	if !verify.Bytes(desc.Digest, desc.Data) {
		return nil, ocilayout.Damaged(desc)
	}
	return desc.Data, nil
}

// layers returns the layers of the image. It sets r.Config and r.Layers.
func (u *unpacker) layers(ctx context.Context, desc ocispec.Descriptor, r *Result) ([]*layer, error) {
	body, err := u.document(ctx, desc)
	if err != nil {
		return nil, err
	}
	doc, err := index.Parse(desc.MediaType, body)
	var invalid *index.InvalidError
	if errors.As(err, &invalid) {
		return nil, &content.Error{Reason: content.Reason(invalid.Reason), Err: err}
	}
	if err != nil {
		return nil, err
	}
	m := doc.Manifest
	if m == nil {
		return nil, &content.Error{Reason: content.ErrBadManifest, Err: fmt.Errorf("%s is an index", desc.Digest)}
	}
	if !mediatype.IsConfig(m.Config.MediaType) {
		return nil, bad(ErrNotImage, "its config has the media type %q: package unpack writes the files of artifacts", m.Config.MediaType)
	}
	for _, l := range m.Layers {
		if err := ocilayout.CheckDescriptor(l); err != nil {
			return nil, &Error{Layer: l.Digest, Err: err}
		}
		if !mediatype.IsLayer(l.MediaType) {
			return nil, &Error{Layer: l.Digest, Err: bad(ErrNotImage, "the layer has the media type %q", l.MediaType)}
		}
	}
	if err := u.wait(ctx, m.Config); err != nil {
		return nil, err
	}
	if body, err = u.document(ctx, m.Config); err != nil {
		return nil, err
	}
	ids, err := diffIDs(body)
	if err != nil {
		return nil, err
	}
	if len(ids) != len(m.Layers) {
		return nil, bad(ErrNotImage, "its config has %d diff IDs, and its manifest has %d layers", len(ids), len(m.Layers))
	}
	r.Config = ocispec.Descriptor{MediaType: mediatype.Bare(m.Config.MediaType), Digest: m.Config.Digest, Size: m.Config.Size}
	r.Layers = len(m.Layers)
	layers := make([]*layer, len(ids))
	for i, id := range ids {
		layers[i] = &layer{desc: m.Layers[i], diffID: digest.Digest(id), done: make(chan struct{})}
	}
	return layers, nil
}

// diffIDs returns the diff IDs in an image's config, which are the digests of the layers' tars.
func diffIDs(config []byte) (ids []string, err error) {
	system := ""
	err = strictjson.Decode(config, strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Object([]string{"os", "rootfs"}, func(key string) (err error) {
			if key == "os" {
				system, err = r.String()
				return err
			}
			return r.Object([]string{"diff_ids"}, func(string) error {
				if r.Null() {
					return nil
				}
				return r.Array(func(int) error {
					id, err := r.String()
					if err == nil {
						err = verify.Digest(digest.Digest(id))
					}
					ids = append(ids, id)
					return err
				})
			})
		})
	})
	if err != nil {
		return nil, bad(ErrNotImage, "its config: %v", err)
	}
	if system == "windows" {
		return nil, bad(ErrNotImage, "it is an image for Windows, whose layers have another form")
	}
	return ids, nil
}

// ahead returns how many layers may be in work at a time, from the start of their decompression
// until they are applied.
func (u *unpacker) ahead() int { return min(max(2, runtime.GOMAXPROCS(0)), 8) }

// rootName is the name of the root file system in the directory.
const rootName = "rootfs"

// make fills the work directory, and gives it the name of the directory that is made.
func (u *unpacker) make(ctx context.Context, w *newdir.Work, key key, layers []*layer, r Result) (Result, error) {
	data, err := json.Marshal(key)
	if err != nil {
		return Result{}, err
	}
	// The files of a killed call are removed. This call cannot know which entries of a layer are
	// there, and a layer that is applied twice can give another result than a layer that is
	// applied once.
	files, err := w.Open(data, false)
	if err != nil {
		return Result{}, err
	}
	defer files.Close()
	if err := files.Mkdir(rootName, 0o755); err != nil {
		return Result{}, err
	}
	if err := files.Chmod(rootName, 0o755); err != nil { // whatever the umask is
		return Result{}, err
	}
	a := &applier{root: filepath.Join(w.Files(), rootName), cfg: u.cfg, privileged: os.Geteuid() == 0}
	a.devices = u.cfg.Devices && a.privileged && !userns.RunningInUserNS()
	all := newSpools(func() (*os.File, error) { return spoolFile(files) })
	for _, l := range layers {
		l.spool = &spool{spools: all}
	}
	if err := u.applyAll(ctx, a, layers, w.StartSync); err != nil {
		return Result{}, err
	}
	r.Files, r.Bytes, r.SetID, r.Dropped = a.files, a.bytes, a.setID, a.dropped
	if err := writeMark(files, mark{key, bootID(u.cfg.NoSync), r}, u.before); err != nil {
		return Result{}, err
	}
	if err := u.ready(ctx); err != nil {
		return Result{}, err
	}
	return r, w.Publish(ctx, files, max(r.Files, newdir.SyncEach+1))
}

// spoolName is the name that the file of a spool has for a moment.
const spoolName = ".spool"

// spoolFile makes a file and removes its name, so that the file is gone when it is closed.
func spoolFile(files *os.Root) (*os.File, error) {
	spoolNames.Lock()
	defer spoolNames.Unlock()
	f, err := files.OpenFile(spoolName, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := files.Remove(spoolName); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// blame returns the error of a layer. If err says that the layer is wrong, blame hashes the
// layer's blob, because the blob may be damaged in the Store, and then returns that error.
func (u *unpacker) blame(ctx context.Context, l *layer, err error) error {
	failed := &Error{Layer: l.desc.Digest, Err: err}
	if ctx.Err() != nil || !errors.Is(err, ErrBadLayer) && content.ReasonOf(err) != content.ErrDigestMismatch {
		return failed
	}
	blob, oerr := u.store.Open(ctx, l.desc)
	if oerr != nil {
		return failed
	}
	defer blob.Close()
	got, _, herr := ocilayout.Hash(ctx, l.desc.Digest, io.LimitReader(blob, l.desc.Size+1), make([]byte, readSize))
	if herr == nil && got != l.desc.Digest {
		failed.Err = ocilayout.Damaged(l.desc)
	}
	return failed
}

// present returns the Result of the earlier call that has made the directory. found is false if
// the directory does not exist.
func present(w *newdir.Work, key key) (r Result, found bool, err error) {
	m, err := readMark(w.Target())
	if errors.Is(err, fs.ErrNotExist) {
		return Result{}, false, nil
	}
	if err == nil {
		err = m.compare(key)
	}
	if err != nil {
		return Result{}, false, err
	}
	w.Sweep()
	return m.Result, true, nil
}
