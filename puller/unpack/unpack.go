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
	// SubPath, if it is not "", is a directory of the artifact. Files writes only the
	// content of this directory, and puts it directly into dir. As in an image volume of
	// Kubernetes, SubPath must be relative, must not have the element "..", and must be a
	// directory that the artifact has. A symbolic link in the path SubPath is not followed,
	// and is an error. A link below SubPath that leads out of SubPath is an error too, even
	// if its target is in the artifact. The targets of symbolic links outside SubPath are
	// not checked. The name SubPath/.pullkit is refused with ErrBadName, because Files
	// writes a file of its own under this name.
	SubPath string
	// Link makes each file a hard link to its blob in the Store, so that the file does not
	// take up room of its own. The file, and with it the blob, becomes read-only. A process
	// of root can still write to the file, which changes the blob, so mount the directory
	// read-only. The Store must be a Directory, and must be on the same file system as dir.
	// The files in a tar are always written, because the Store does not have a blob for each
	// of them. A directory that an earlier call has made stays as it is, with copies or with
	// links: to get links in place of copies, remove the directory first.
	Link bool
	// Verify hashes all files of a directory that an earlier call has made, and compares
	// their digests. Without Verify, Files hashes only the files whose modification time has
	// changed.
	Verify bool
	// Name returns a file name for a layer that does not have a name. If Name is nil or
	// returns "", the layer gets a name by its media type; see the package comment. A
	// directory that an earlier call has made keeps its names.
	Name func(layer ocispec.Descriptor) string
	// MaxFiles is the most files, directories and links that an artifact may have, those
	// outside SubPath included. Zero means 100,000.
	MaxFiles int
	// MaxBytes is the most bytes that all files together may have. Files that Link makes
	// count. Files outside SubPath and hard links in tars do not count. Zero means 1 TiB.
	MaxBytes int64
	// MaxRatio limits how many bytes the tar of a layer may unpack to: MaxRatio times the
	// size of the layer's blob, plus 1 MiB. Zero means 200.
	MaxRatio int
}

// A Directory is a Store that is an OCI image layout in a directory, as layout.Layout is. A
// Store need not be a Directory, except with Config.Link. Files makes hard links to the blobs
// in this directory, and clones of them where the file system can clone files.
type Directory interface {
	content.Store
	// Dir returns the path of the layout.
	Dir() string
}

// A File is a file or a symbolic link that an artifact has.
type File struct {
	Name   string        `json:"name"`  // relative to the directory, with slashes
	Layer  digest.Digest `json:"layer"` // of the layer that has the file
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest,omitempty"` // of the content; "" for a symbolic link
	Link   string        `json:"link,omitempty"`   // the target of a symbolic link; "" for a file
}

// Files writes the files of an artifact into the directory dir, and returns them in the order
// of the layers. manifest describes the artifact, whose blobs are in store. If manifest
// describes an index, exactly one manifest of the index must be stored.
//
// Files makes dir. If an earlier call has made dir of the same artifact and SubPath, Files
// checks dir, writes nothing, and returns the files. Files passes dir through filepath.Abs
// first: link/../x means x, even if link is a symbolic link. Missing directories above dir are
// made, and stay if the call fails. The last element of dir must have at most 242 bytes, and
// must not end in .pullkit or .pullkit.old.
//
// The package comment says where the names of files come from, what is refused, and what
// holds after a crash.
//
// Errors are of type *Error, except that of a ctx which has ended. After an error, dir is as
// it was before the call, with one exception: if the directory above dir cannot be synced,
// Files returns an error although dir is whole, and dir may be lost with the next loss of
// power. After the end of ctx, the next call goes on with the files that were written.
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

// fail returns err as Files returns it: as an *Error, or as the cause of a ctx that has ended.
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

// entries makes the directory, or checks the directory of an earlier call. It returns the
// names in it.
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
	Plan []byte // hash of the places of all layers
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
			return nil, &Error{Layer: l.Digest, Err: &content.Error{Reason: content.ErrBadManifest, Err: errors.New("the name of the layer is not a string")}}
		}
	}
	return layers, nil
}

// present returns what is in the directory, if an earlier call has made it.
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

// make fills the work directory, and gives it the name of the directory that is made.
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
	// An error in the tar can come from a damaged blob. The rest of the blob is read, because
	// blob compares the digest at the end, and its error is the better one.
	if _, rerr := io.Copy(io.Discard, r); rerr != nil {
		return rerr
	}
	return err
}
