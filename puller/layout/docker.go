package layout

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
)

// dockerName is the list of images in what docker save writes. Since Docker 25
// there is an index.json beside it, and its paths are those of blobs; before,
// configs and layers are files of their own whose digests nothing tells.
const dockerName = "manifest.json"

type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// A spooled is a file of the archive, kept under a temporary name.
type spooled struct {
	temp string
	desc ocispec.Descriptor
}

// sha256Of is any good digest of the algorithm that spooled files get.
const sha256Of = digest.Digest("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

// spool writes a file aside, and hashes it.
func (im *importer) spool(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := im.l.ready(sha256Of); err != nil {
		return err
	}
	if err := im.l.checkSpace(size); err != nil {
		return err
	}
	temp := tempPrefix + rand.Text()
	f, err := im.l.createFresh(temp)
	if err != nil {
		return err
	}
	if old, ok := im.spooled[name]; ok {
		im.l.fs.Remove(old.temp)
	}
	im.spooled[name] = spooled{temp: temp}
	d, n, err := im.copyHash(ctx, sha256Of, f, r)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%.200q: %w", name, err)
	}
	if n != size {
		return bad(content.ErrBadIndex, "%.200q ends early", name)
	}
	im.spooled[name] = spooled{temp, ocispec.Descriptor{Digest: d, Size: n}}
	return nil
}

func (im *importer) clean() {
	for _, s := range im.spooled {
		im.l.fs.Remove(s.temp)
	}
}

// find gives the file that a path of manifest.json leads to, stored as a blob.
func (im *importer) find(ctx context.Context, name string) (ocispec.Descriptor, error) {
	at := path.Clean(name)
	for range 8 {
		if to, ok := im.links[at]; ok {
			at = to
			continue
		}
		if s, ok := im.spooled[at]; ok {
			return s.desc, im.adopt(ctx, s)
		}
		if rest, ok := strings.CutPrefix(at, blobsDir+"/"); ok {
			desc := ocispec.Descriptor{Digest: digest.Digest(strings.Replace(rest, "/", ":", 1))}
			if err := checkDesc(desc); err != nil {
				return desc, err
			}
			fi, err := im.l.fs.Lstat(blobName(desc.Digest))
			if err == nil {
				desc.Size = fi.Size()
				return desc, nil
			}
			if im.brings(desc.Digest) {
				return desc, im.removed(desc.Digest)
			}
		}
		break
	}
	return ocispec.Descriptor{}, bad(content.ErrBadIndex, "%s names %.200q, which is not in it", dockerName, name)
}

// adopt stores a spooled file as a blob. It is read once more: to move it would
// need a second way for a blob to come into being.
func (im *importer) adopt(ctx context.Context, s spooled) error {
	f, err := im.l.fs.OpenFile(s.temp, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return im.blob(ctx, s.desc, f)
}

// dockerList reads manifest.json. Its images, and their layers and tags, are counted
// first: each is small as text and large in memory.
func dockerList(data []byte) ([]dockerImage, error) {
	images, parts := 0, 0
	part := func([]byte) bool { parts++; return parts <= maxArchiveParts }
	counted := json.Valid(data) && eachElement(data, func(image []byte) bool {
		images++
		eachMember(image, func(_, value []byte) bool {
			eachElement(value, part)
			return true
		})
		return images <= maxArchiveImages && parts <= maxArchiveParts
	})
	if images > maxArchiveImages || parts > maxArchiveParts {
		return nil, bad(content.ErrTooLarge, "%s has more than %d images, or more than %d layers and tags", dockerName, maxArchiveImages, maxArchiveParts)
	}
	if !counted {
		return nil, bad(content.ErrBadIndex, "%s is not a list, as JSON", dockerName)
	}
	var list []dockerImage
	return list, unmarshal(dockerName, data, &list)
}

// dockerImages makes a manifest for each image of manifest.json.
func (im *importer) dockerImages(ctx context.Context) ([]tagged, error) {
	list, err := dockerList(im.docs[dockerName])
	if err != nil {
		return nil, err
	}
	var tags []tagged
	for _, img := range list {
		desc, err := im.dockerImage(ctx, img)
		if err != nil {
			return nil, err
		}
		names := img.RepoTags
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			ref, err := im.name(name, desc)
			if err != nil {
				return nil, err
			}
			tags = append(tags, tagged{ref, desc})
		}
	}
	return tags, nil
}

// dockerImage stores one image. Its config is an OCI config as it is.
func (im *importer) dockerImage(ctx context.Context, img dockerImage) (ocispec.Descriptor, error) {
	config, err := im.find(ctx, img.Config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config.MediaType = ocispec.MediaTypeImageConfig
	data, err := im.l.readBlob(config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var c struct { // of an ocispec.Image what is needed here
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := unmarshal(img.Config, data, &c); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(c.RootFS.DiffIDs) != len(img.Layers) {
		return ocispec.Descriptor{}, bad(content.ErrBadManifest, "%.200q tells of %d layers, %s of %d", img.Config, len(c.RootFS.DiffIDs), dockerName, len(img.Layers))
	}
	layers := make([]ocispec.Descriptor, 0, len(img.Layers))
	for i, name := range img.Layers {
		layer, err := im.find(ctx, name)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if layer.MediaType, err = im.l.layerType(layer); err != nil {
			return ocispec.Descriptor{}, err
		}
		if layer.MediaType == ocispec.MediaTypeImageLayer && layer.Digest != c.RootFS.DiffIDs[i] {
			return ocispec.Descriptor{}, bad(content.ErrDigestMismatch, "layer %.200q has digest %s, the image says %.80q", name, layer.Digest, string(c.RootFS.DiffIDs[i]))
		}
		layers = append(layers, layer)
	}
	return im.manifest(ctx, config, layers, c.Platform)
}

func (im *importer) manifest(ctx context.Context, config ocispec.Descriptor, layers []ocispec.Descriptor, platform ocispec.Platform) (ocispec.Descriptor, error) {
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, n, err := hashOf(ctx, sha256Of, bytes.NewReader(data))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: n}
	if platform.OS != "" && platform.Architecture != "" {
		desc.Platform = &platform
	}
	return desc, im.blob(ctx, desc, bytes.NewReader(data))
}

// readBlob reads a stored document.
func (l *Layout) readBlob(desc ocispec.Descriptor) ([]byte, error) {
	f, err := l.fs.OpenFile(blobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.notFound("blob %s is not stored", desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, blobName(desc.Digest), maxDocument)
}

// layerType tells from its first bytes how a layer is packed.
func (l *Layout) layerType(desc ocispec.Descriptor) (string, error) {
	f, err := l.fs.OpenFile(blobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", l.notFound("blob %s was removed", desc.Digest)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, 4)
	n, err := f.ReadAt(magic, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	switch magic = magic[:n]; {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return ocispec.MediaTypeImageLayerGzip, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return ocispec.MediaTypeImageLayer, nil
}
