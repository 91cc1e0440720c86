package scripted

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// An Object is a piece of content that a Scenario serves, right or wrong.
type Object struct {
	ID  string `json:"id"`
	Gen string `json:"gen"` // layer, bytes, bomb, text, config, manifest, index or nest

	Size      int64  `json:"size,omitempty"` // of layer, bytes and bomb
	Seed      uint64 `json:"seed,omitempty"`
	Text      string `json:"text,omitempty"`
	MediaType string `json:"media_type,omitempty"` // "" means what Gen usually has

	Config string       `json:"config,omitempty"` // of manifest: an object
	Layers []string     `json:"layers,omitempty"` // of config and manifest: objects
	Of     []IndexEntry `json:"of,omitempty"`     // of index and nest
	Depth  int          `json:"depth,omitempty"`  // of nest: how many indexes are around Of[0]; they are named ID_0, ID_1, ...
	OS     string       `json:"os,omitempty"`     // of config; "" means linux
	Arch   string       `json:"arch,omitempty"`   // of config; "" means amd64

	// Override sets values by path ("layers.0.size") to JSON texts; <delete> removes.
	Override map[string]string `json:"override,omitempty"`
}

// An IndexEntry is an entry of an Object that is an index.
type IndexEntry struct {
	ID       string `json:"id"`
	Platform string `json:"platform"` // os/architecture[/variant]; "" means none
}

// A servedObject is the content that an Object describes, with its digests.
type servedObject struct {
	fakeregistry.Content
	diffID digest.Digest // of a layer: the tar's
}

func newObject(mediaType string, data []byte, diffID digest.Digest) servedObject {
	return servedObject{fakeregistry.Content{MediaType: mediaType, Digest: fakeregistry.SHA256(data), Data: data}, diffID}
}

// standardObjects are the objects of a scenario that has none.
func standardObjects() []Object {
	return []Object{
		{ID: "l1", Gen: "layer", Size: 200 << 10, Seed: 1},
		{ID: "l2", Gen: "layer", Size: 50 << 10, Seed: 2},
		{ID: "cfg", Gen: "config", Layers: []string{"l1", "l2"}},
		{ID: "m", Gen: "manifest", Config: "cfg", Layers: []string{"l1", "l2"}},
	}
}

// build makes the objects in order. An object may name earlier objects.
func (p *placeholders) build(objects []Object) error {
	for _, o := range objects {
		if err := p.make(o); err != nil {
			return fmt.Errorf("object %q: %w", o.ID, err)
		}
	}
	return nil
}

func (p *placeholders) make(o Object) error {
	switch o.Gen {
	case "layer":
		data, diffID, err := fakeregistry.Layer(o.Size, o.Seed, 0)
		if err != nil {
			return err
		}
		p.add(o.ID, newObject(cmp.Or(o.MediaType, ocispec.MediaTypeImageLayerGzip), data, diffID))
	case "bomb":
		data, diffID, err := gzipBomb(o.Size)
		if err != nil {
			return err
		}
		p.add(o.ID, newObject(cmp.Or(o.MediaType, ocispec.MediaTypeImageLayerGzip), data, diffID))
	case "bytes":
		p.addPlain(o, fakeregistry.RandomBytes(o.Size, o.Seed, 0))
	case "text":
		p.addPlain(o, []byte(p.fill(o.Text)))
	case "config":
		return p.makeConfig(o)
	case "manifest":
		return p.makeManifest(o)
	case "index":
		return p.makeIndex(o)
	case "nest":
		return p.makeNest(o)
	default:
		return fmt.Errorf("unknown gen %q", o.Gen)
	}
	return nil
}

func (p *placeholders) addPlain(o Object, data []byte) {
	p.add(o.ID, newObject(cmp.Or(o.MediaType, "application/octet-stream"), data, fakeregistry.SHA256(data)))
}

func (p *placeholders) makeConfig(o Object) error {
	diffIDs := []digest.Digest{}
	for _, id := range o.Layers {
		if layer, ok := p.objects[id]; ok {
			diffIDs = append(diffIDs, layer.diffID)
		}
	}
	data, err := json.Marshal(map[string]any{
		"os": cmp.Or(o.OS, "linux"), "architecture": cmp.Or(o.Arch, "amd64"),
		"created": "2020-01-02T03:04:05Z", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return err
	}
	p.add(o.ID, newObject(cmp.Or(o.MediaType, ocispec.MediaTypeImageConfig), data, ""))
	return nil
}

func (p *placeholders) makeManifest(o Object) error {
	layers := []any{}
	for _, id := range o.Layers {
		layers = append(layers, p.describe(id))
	}
	mediaType := cmp.Or(o.MediaType, ocispec.MediaTypeImageManifest)
	return p.addDocument(o, mediaType, map[string]any{
		"schemaVersion": 2, "mediaType": mediaType, "config": p.describe(o.Config), "layers": layers,
	})
}

func (p *placeholders) makeIndex(o Object) error {
	entries := []any{}
	for _, e := range o.Of {
		d := p.describe(e.ID)
		if e.Platform != "" {
			parts := strings.Split(e.Platform, "/")
			if len(parts) < 2 {
				return fmt.Errorf("platform %q", e.Platform)
			}
			platform := map[string]any{"os": parts[0], "architecture": parts[1]}
			if len(parts) > 2 {
				platform["variant"] = parts[2]
			}
			d["platform"] = platform
		}
		entries = append(entries, d)
	}
	mediaType := cmp.Or(o.MediaType, ocispec.MediaTypeImageIndex)
	return p.addDocument(o, mediaType, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": entries})
}

// makeNest makes indexes within indexes. The innermost one names Of[0].
func (p *placeholders) makeNest(o Object) error {
	if len(o.Of) == 0 || o.Depth < 1 {
		return fmt.Errorf("a nest needs an entry and a depth")
	}
	inner := p.describe(o.Of[0].ID)
	for i := range o.Depth {
		inner["platform"] = map[string]any{"os": "linux", "architecture": "amd64"}
		data, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{inner},
		})
		if err != nil {
			return err
		}
		id := fmt.Sprintf("%s_%d", o.ID, i)
		p.add(id, newObject(ocispec.MediaTypeImageIndex, data, ""))
		inner = p.describe(id)
	}
	p.objects[o.ID] = p.objects[fmt.Sprintf("%s_%d", o.ID, o.Depth-1)]
	return nil
}

// describe returns the descriptor of an object, and a wrong one for an unknown ID.
func (p *placeholders) describe(id string) map[string]any {
	m, ok := p.objects[id]
	if !ok {
		return map[string]any{"mediaType": ocispec.MediaTypeImageLayerGzip, "digest": id, "size": 1}
	}
	return map[string]any{"mediaType": m.MediaType, "digest": m.Digest, "size": len(m.Data)}
}

func (p *placeholders) addDocument(o Object, mediaType string, doc map[string]any) error {
	for path, text := range o.Override {
		if err := p.override(doc, path, text); err != nil {
			return fmt.Errorf("override %q: %w", path, err)
		}
	}
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return err
	}
	p.add(o.ID, newObject(mediaType, bytes.TrimSpace(data.Bytes()), ""))
	return nil
}

func (p *placeholders) override(doc map[string]any, path, text string) error {
	keys := strings.Split(path, ".")
	if text == "<delete>" {
		return setValue(doc, keys, nil, true)
	}
	var value any
	dec := json.NewDecoder(strings.NewReader(p.fill(text)))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return err
	}
	return setValue(doc, keys, value, false)
}

// setValue sets or removes the value that keys lead to.
func setValue(in any, keys []string, value any, remove bool) error {
	last := len(keys) == 1
	switch in := in.(type) {
	case map[string]any:
		if !last {
			return setValue(in[keys[0]], keys[1:], value, remove)
		}
		in[keys[0]] = value
		if remove {
			delete(in, keys[0])
		}
		return nil
	case []any:
		i, err := strconv.Atoi(keys[0])
		if err != nil || i < 0 || i >= len(in) {
			return fmt.Errorf("no element %q", keys[0])
		}
		if !last {
			return setValue(in[i], keys[1:], value, remove)
		}
		in[i] = value
		return nil
	}
	return fmt.Errorf("%q is not in an object or array", keys[0])
}

// placeholders are the objects and listeners that the texts of a scenario can name.
type placeholders struct {
	objects   map[string]servedObject
	order     []string
	listeners map[string]string // name -> host:port
}

func (p *placeholders) add(id string, m servedObject) {
	if p.objects == nil {
		p.objects = map[string]servedObject{}
	}
	p.objects[id] = m
	p.order = append(p.order, id)
}

// fill replaces the placeholders in a text. Unknown ones stay.
func (p *placeholders) fill(text string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		name, after, ok := strings.Cut(rest, "}}")
		value, known := p.value(name)
		if !ok || !known {
			out.WriteString("{{")
			text = rest
			continue
		}
		out.WriteString(value)
		text = after
	}
}

func (p *placeholders) value(placeholder string) (string, bool) {
	what, arg, hasArg := strings.Cut(placeholder, ":")
	if !hasArg {
		host, ok := p.listeners[what]
		return host, ok
	}
	switch what {
	case "basic":
		return base64.StdEncoding.EncodeToString([]byte(arg)), true
	case "pad":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return "", false
		}
		return strings.Repeat("A", n), true
	}
	m, ok := p.objects[arg]
	if !ok {
		return "", false
	}
	switch what {
	case "digest":
		return string(m.Digest), true
	case "digest512":
		return string(sha512Of(m.Data)), true
	case "hex":
		return m.Digest.Encoded(), true
	case "size":
		return strconv.Itoa(len(m.Data)), true
	case "raw":
		return string(m.Data), true
	}
	return "", false
}

// find returns the object whose content has this digest.
func (p *placeholders) find(dgst string) (servedObject, bool) {
	for _, id := range p.order {
		m := p.objects[id]
		if dgst == string(m.Digest) || strings.HasPrefix(dgst, "sha512:") && dgst == string(sha512Of(m.Data)) {
			return m, true
		}
	}
	return servedObject{}, false
}

func sha512Of(data []byte) digest.Digest {
	sum := sha512.Sum512(data)
	return digest.Digest("sha512:" + hex.EncodeToString(sum[:]))
}

// gzipBomb makes a small layer with one large file of zero bytes in it.
func gzipBomb(size int64) (data []byte, diffID digest.Digest, err error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	hash := sha256.New()
	w := tar.NewWriter(io.MultiWriter(z, hash))
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size}); err != nil {
		return nil, "", err
	}
	if _, err := io.CopyN(w, repeated(0), size); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), digest.Digest("sha256:" + hex.EncodeToString(hash.Sum(nil))), nil
}

// repeated is an endless stream of one byte.
type repeated byte

func (b repeated) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	p[0] = byte(b)
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
	return len(p), nil
}
