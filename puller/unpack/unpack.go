package unpack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// A Config holds the settings of Files. The zero Config writes all files of an artifact.
type Config struct {
	// SubPath, if it is not "", is a directory of the artifact. Only what is in it is
	// written, and it becomes the directory that is made. As in an image volume of
	// Kubernetes, SubPath is relative, has no element "..", and must be a directory that
	// the artifact has. A symbolic link in SubPath is not followed, and a link below it
	// that leads out of it is an error, also if it stays in the artifact. Where links that
	// are not below SubPath lead to is not checked. SubPath/.pullkit is a name that is not
	// written, as .pullkit is without SubPath.
	SubPath string
	// Link makes files that are hard links to the blobs of the Store, so that they take up
	// no room of their own, and makes them, and so the blobs, read-only. A process of root
	// can still write to such a file, which changes the blob, so mount the directory
	// read-only. The Store must be a Directory, and must be on the file system of the
	// directory that is made. The files of tars are always written. A directory that an
	// earlier call has made stays as it is, with copies or with links: to get links in place
	// of copies, remove it first.
	Link bool
	// Verify hashes all files of a directory that an earlier call has made. Without it, only
	// the files are hashed that were modified later, or whose time was set.
	Verify bool
	// Name returns the name of the file of a layer that has none. If it is nil or returns
	// "", the layer gets a name by its media type; see the package comment. A directory that
	// an earlier call has made keeps its names.
	Name func(layer ocispec.Descriptor) string
	// MaxFiles is the most files, directories and links that an artifact may have, those
	// outside SubPath included. Zero means 100,000.
	MaxFiles int
	// MaxBytes is the most bytes that all files together may have that are written. Files
	// outside SubPath and hard links in tars do not count, and blobs count that become
	// links with Link. Zero means 1 TiB.
	MaxBytes int64
	// MaxRatio is how many times its size the tar of a layer may unpack to, plus 1 MiB.
	// Zero means 200.
	MaxRatio int
}

// A Directory is a Store that is an OCI image layout in a directory, as layout.Layout is. It
// is optional: Files uses the blobs in this directory for hard links, and for clones where
// the file system can clone files.
type Directory interface {
	content.Store
	// Dir returns the path of the layout.
	Dir() string
}

// A File is a file or a symbolic link that an artifact has.
type File struct {
	Name   string        `json:"name"`  // below the directory, with slashes
	Layer  digest.Digest `json:"layer"` // of the layer that it is from
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest,omitempty"` // of the content; "" for a symbolic link
	Link   string        `json:"link,omitempty"`   // the target of a symbolic link; "" for a file
}

// Files writes the files of the artifact in store that manifest describes, and returns them
// in the order of the layers. dir is made by this call, or is one that an earlier call has
// made of the same artifact and SubPath: then Files checks it, writes nothing, and returns
// the files. If manifest describes an index, exactly one manifest of it must be stored. dir
// is taken as filepath.Abs returns it: link/../x is x, wherever link leads to. Directories
// that dir is in are made if they are missing, and stay if the call fails. The last element
// of dir has at most 242 bytes and does not end in .pullkit or .pullkit.old.
//
// The package comment says where the names of files come from, what is refused, and what
// holds after a crash.
//
// Errors are of type *Error, except that of a ctx which has ended. After an error, dir is as
// it was before the call. One error comes when dir is whole already: if the directory that
// dir is in cannot be synced, dir may be lost with the next loss of power. After the end of
// ctx, the next call goes on with the files that were written.
func Files(ctx context.Context, store content.Store, manifest ocispec.Descriptor, dir string, cfg Config) ([]File, error) {
	return (&unpacker{store: store, cfg: cfg, dir: dir, clone: clone}).run(ctx, manifest)
}

// An unpacker is one call of Files.
type unpacker struct {
	store content.Store
	cfg   Config
	dir   string
	key   key

	// Tests replace these.
	before func(op, name string) error // is called before each operation that changes a file
	clone  func(to, from *os.File) error
	noSync bool
}

func (u *unpacker) run(ctx context.Context, manifest ocispec.Descriptor) ([]File, error) {
	entries, err := u.entries(ctx, manifest)
	if err != nil {
		return nil, u.fail(ctx, err)
	}
	files := make([]File, 0, len(entries))
	for _, e := range entries {
		if e.Kind != kindDir {
			files = append(files, File{Name: e.Name, Layer: e.Layer, Size: e.Size, Digest: e.Digest, Link: e.Link})
		}
	}
	return files, nil
}

// fail returns an error as Files does.
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
	failed.Err = quotePaths(failed.Err)
	return failed
}

// entries returns what is in the directory, after it has made or checked it.
func (u *unpacker) entries(ctx context.Context, manifest ocispec.Descriptor) ([]entry, error) {
	if err := u.complete(); err != nil {
		return nil, err
	}
	manifest, err := ocilayout.ImageToUnpack(ctx, u.store, manifest)
	if err != nil {
		return nil, err
	}
	u.key.Manifest = manifest.Digest
	w, err := u.newWork()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if entries, found, err := u.present(ctx, w); found || err != nil {
		return entries, err
	}
	layers, err := u.layers(ctx, manifest)
	if err != nil {
		return nil, err
	}
	// Names are checked before anything is made.
	all, perr := places(layers, u.cfg.Name)
	if perr != nil {
		return nil, perr
	}
	for {
		if err := w.Lock(ctx); err != nil {
			return nil, err
		}
		entries, found, err := u.present(ctx, w)
		if err == nil && !found {
			entries, err = u.make(ctx, w, all)
		}
		if err == nil || ctx.Err() == nil {
			w.Remove()
		}
		if !errors.Is(err, newdir.ErrAppeared) {
			return entries, err
		}
	}
}

// newWork returns the work directory of the call.
func (u *unpacker) newWork() (*newdir.Work, error) {
	return newdir.New(newdir.Config{
		Dir: u.dir, Mode: 0o755, IsKey: isKey, Taken: ErrTaken, BadName: ErrBadName, Before: u.before, NoSync: u.noSync,
	})
}

// A workKey says what is made in a work directory. A call goes on with what an earlier call
// with the same key has left.
type workKey struct {
	Version int
	key
	Link bool
	Plan []byte // the hash of what becomes of each layer
}

// isKey reports whether data is a key that this package has written.
func isKey(data []byte) bool {
	var k workKey
	return json.Unmarshal(data, &k) == nil && k.Version > 0 && k.Manifest.Validate() == nil && len(k.Plan) == sha256.Size
}

// complete checks the settings and sets those that are zero.
func (u *unpacker) complete() error {
	c := &u.cfg
	if c.MaxFiles < 0 || c.MaxBytes < 0 || c.MaxRatio < 0 {
		return errors.New("a limit of the Config is negative")
	}
	c.MaxFiles = cmp.Or(c.MaxFiles, 100_000)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<40)
	c.MaxRatio = cmp.Or(c.MaxRatio, 200)
	if _, ok := u.store.(Directory); c.Link && !ok {
		return bad(ErrNoLink, "a %T is not a Directory", u.store)
	}
	if c.SubPath != "" {
		sub, err := cleanName(c.SubPath)
		if err != nil {
			return fmt.Errorf("SubPath %s: %w", quote(c.SubPath), err)
		}
		if sub != "." {
			u.key.SubPath = sub
		}
	}
	return nil
}

// layers returns the layers of a manifest.
func (u *unpacker) layers(ctx context.Context, desc ocispec.Descriptor) ([]artifactLayer, error) {
	body, err := ocilayout.ReadVerified(ctx, u.store, desc)
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
	if doc.Manifest == nil {
		return nil, &content.Error{Reason: content.ErrBadManifest, Err: fmt.Errorf("%s is an index", desc.Digest)}
	}
	var manifest struct {
		Layers []struct {
			ocispec.Descriptor
			Name json.RawMessage `json:"name"` // Ollama's
		}
	}
	if err := json.Unmarshal(body, &manifest); err != nil {
		return nil, &content.Error{Reason: content.ErrBadManifest, Err: err}
	}
	layers := make([]artifactLayer, len(manifest.Layers))
	for i, l := range manifest.Layers {
		layers[i].Descriptor = l.Descriptor
		if l.Name != nil && isOllama(l.MediaType) && json.Unmarshal(l.Name, &layers[i].Name) != nil {
			return nil, &Error{Layer: l.Digest, Err: &content.Error{Reason: content.ErrBadManifest, Err: errors.New("the name of the layer is not a text")}}
		}
	}
	return layers, nil
}

// present returns what is in the directory if an earlier call has made it.
func (u *unpacker) present(ctx context.Context, w *newdir.Work) ([]entry, bool, error) {
	info, err := os.Lstat(w.Target()) // a symbolic link is not followed
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !info.IsDir() {
		return nil, false, bad(ErrTaken, "it is not a directory")
	}
	entries, err := u.check(ctx, w.Target(), info)
	if err == nil {
		w.Sweep()
	}
	return entries, err == nil, err
}

// make fills the tree of the work and gives it its name.
func (u *unpacker) make(ctx context.Context, w *newdir.Work, all []place) ([]entry, error) {
	plan := sha256.New()
	for _, p := range all {
		fmt.Fprintf(plan, "%s %v %q\n", p.layer.Digest, p.tar, p.name) // Config.Name may give other names than before
	}
	k, err := json.Marshal(workKey{markVersion, u.key, u.cfg.Link, plan.Sum(nil)})
	if err != nil {
		return nil, err
	}
	root, err := w.Open(k, true)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := newTree(root, u.key.SubPath, u.before)
	t.maxFiles, t.bytesLeft, t.fresh = u.cfg.MaxFiles, u.cfg.MaxBytes, u.cfg.Link
	for _, p := range all {
		if err := u.layer(ctx, t, p); err != nil {
			return nil, &Error{Layer: p.layer.Digest, Err: err}
		}
	}
	if err := t.finish(); err != nil {
		return nil, err
	}
	if err := writeMark(root, mark{Version: markVersion, key: u.key, Entries: t.entries}, u.before); err != nil {
		return nil, err
	}
	return t.entries, w.Publish(ctx, root, len(t.entries))
}

// layer writes the files of a layer.
func (u *unpacker) layer(ctx context.Context, t *tree, p place) error {
	if !p.tar {
		if err := u.file(ctx, t, p); err != nil {
			return &Error{File: p.name, Err: err}
		}
		return nil
	}
	blob, err := u.openBlob(ctx, p.layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	r := ocilayout.ContextReader{Ctx: ctx, R: blob}
	want := digest.Digest(p.layer.Annotations[annotationDigest])
	err = t.addTar(ctx, p, r, tarLimit(p.layer.Size, u.cfg.MaxRatio), want)
	if ctx.Err() != nil {
		return err
	}
	// What is wrong with a tar may be that its blob is not the artifact's any more.
	if _, rerr := io.Copy(io.Discard, r); rerr != nil {
		return rerr
	}
	return err
}
