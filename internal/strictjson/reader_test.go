package strictjson_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A doc is the document that the tests read.
type doc struct {
	Name  string
	Items []int64
	Inner struct{ Key string }
	Notes map[string]string
}

func read(data string) (doc, error) {
	var d doc
	err := strictjson.Decode([]byte(data), strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Object([]string{"name", "items", "inner", "notes"}, func(key string) (err error) {
			switch key {
			case "name":
				d.Name, err = r.String()
			case "items":
				return r.Array(func(int) error {
					n, err := r.Int64()
					d.Items = append(d.Items, n)
					return err
				})
			case "inner":
				return r.Object([]string{"key"}, func(string) (err error) {
					d.Inner.Key, err = r.String()
					return err
				})
			case "notes":
				d.Notes, err = r.Strings()
			}
			return err
		})
	})
	return d, err
}

func TestDecodeReadsWhatEncodingJSONReads(t *testing.T) {
	got, err := read(" {\"name\" : \"a\\u00e9\\ud83d\\ude00\\n\\/\",\n\"x\":{\"a\":[1,{}],\"a\":null,\"A\":-1.5e+3},\"items\":[1,-2,0],\"inner\":{\"key\":\"k\"},\"notes\":{\"b\":\"1\",\"a\":null}}\n")
	require.NoError(t, err)
	want := doc{Name: "aé😀\n/", Items: []int64{1, -2, 0}, Notes: map[string]string{"b": "1", "a": ""}}
	want.Inner.Key = "k"
	assert.Equal(t, want, got)

	got, err = read(`{"name":null,"items":null,"inner":null,"notes":null}`)
	require.NoError(t, err)
	assert.Equal(t, doc{}, got)

	_, err = read("null")
	assert.NoError(t, err, "null in place of an object is not an error")
}

func TestDecodeRefusesWhatParsersReadDifferently(t *testing.T) {
	tests := []struct {
		in   string
		rule strictjson.Rule
		text string
	}{
		{``, strictjson.Syntax, "bad JSON: the document ends early at byte 0"},
		{`{"name":"a"`, strictjson.Syntax, "bad JSON: want , or } at byte 11"},
		{`{"name":"a`, strictjson.Syntax, "name: bad JSON: the document ends early at byte 10"},
		{`{"name":}`, strictjson.Syntax, "name: bad JSON: want a string at byte 8"},
		{`{"name":"a",}`, strictjson.Syntax, "bad JSON: want a key at byte 12"},
		{`{"items":[1,]}`, strictjson.Syntax, "items[1]: bad JSON: want a number at byte 12"},
		{`{"items":[01]}`, strictjson.Syntax, "items: bad JSON: want , or ] at byte 11"},
		{`{"items":[1.]}`, strictjson.Syntax, "items[0]: bad JSON: bad number at byte 12"},
		{`{"items":[-]}`, strictjson.Syntax, "items[0]: bad JSON: bad number at byte 11"},
		{`{"x":nul}`, strictjson.Syntax, "bad JSON: want a value at byte 5"},
		{`{"x":"` + "\n" + `"}`, strictjson.Syntax, "bad JSON: control character in a string at byte 6"},
		{`{"x":"\x"}`, strictjson.Syntax, "bad JSON: bad escape in a string at byte 6"},
		{`{"x":"\u12"}`, strictjson.Syntax, "bad JSON: bad escape in a string at byte 6"},
		{`{name:1}`, strictjson.Syntax, "bad JSON: want a key at byte 1"},
		{`{"name" "a"}`, strictjson.Syntax, "bad JSON: want : after a key at byte 8"},
		{"\ufeff{}", strictjson.Syntax, "bad JSON: want an object at byte 0"},
		{`[]`, strictjson.Type, "wrong type: want an object, found an array at byte 0"},
		{`"a"`, strictjson.Type, "wrong type: want an object, found a string at byte 0"},
		{`{"name":5}`, strictjson.Type, "name: wrong type: want a string, found a number at byte 8"},
		{`{"inner":{"key":{}}}`, strictjson.Type, "inner.key: wrong type: want a string, found an object at byte 16"},
		{`{"items":[1,"2"]}`, strictjson.Type, "items[1]: wrong type: want a number, found a string at byte 12"},
		{`{"items":[1.5]}`, strictjson.Type, "items[0]: wrong type: want a whole number of 64 bits at byte 10"},
		{`{"items":[1e2]}`, strictjson.Type, "items[0]: wrong type: want a whole number of 64 bits at byte 10"},
		{`{"items":[9223372036854775808]}`, strictjson.Type, "items[0]: wrong type: want a whole number of 64 bits at byte 10"},
		{`{"items":{}}`, strictjson.Type, "items: wrong type: want an array, found an object at byte 9"},
		{`{"notes":{"secret":1}}`, strictjson.Type, "notes.*: wrong type: want a string, found a number at byte 19"},
		{`{"notes":{"a":"1","a":"1"}}`, strictjson.Duplicate, "notes.*: duplicate key at byte 18"},
		{`{"name":"a","name":"a"}`, strictjson.Duplicate, "name: duplicate key at byte 12"},
		{`{"name":"a","n\u0061me":"b"}`, strictjson.Duplicate, "name: duplicate key at byte 12"},
		{`{"inner":{"key":"a","key":"a"}}`, strictjson.Duplicate, "inner.key: duplicate key at byte 20"},
		{`{"Name":"a"}`, strictjson.Case, "name: key in another case at byte 1"},
		{`{"item\u017f":[]}`, strictjson.Case, "items: key in another case at byte 1"},
		{`{"inner":{"` + "\u212a" + `ey":"a"}}`, strictjson.Case, "inner.key: key in another case at byte 10"},
		{`{}{}`, strictjson.Trailing, "data after the document at byte 2"},
		{"{}\x00", strictjson.Trailing, "data after the document at byte 2"},
		{`{"x":` + strings.Repeat("[", 200000), strictjson.Depth, "nested too deeply at byte 105"},
	}
	for _, tt := range tests {
		_, err := read(tt.in)
		var e *strictjson.Error
		if assert.ErrorAs(t, err, &e, "%.40q", tt.in) {
			assert.Equal(t, tt.rule, e.Rule, "%.40q", tt.in)
			text := err.Error()
			if i := strings.Index(text, "[0][0]"); i >= 0 {
				text = text[strings.Index(text, "nested"):]
			}
			assert.Equal(t, tt.text, text, "%.40q", tt.in)
		}
	}
}

func TestDecodeLimitsSizeAndDepth(t *testing.T) {
	skip := func(*strictjson.Reader) error { return nil }
	assert.NoError(t, strictjson.Decode([]byte(`[[1]]`), strictjson.Limits{Bytes: 5, Depth: 2}, skip))
	assert.EqualError(t, strictjson.Decode([]byte(`[[1]] `), strictjson.Limits{Bytes: 5}, skip), "too large: 6 bytes, at most 5 are read at byte 0")
	assert.ErrorContains(t, strictjson.Decode([]byte(`[[[1]]]`), strictjson.Limits{Depth: 2}, skip), "nested too deeply")
	assert.EqualError(t, strictjson.Decode([]byte(strings.Repeat("[", 200)), strictjson.Limits{}, skip),
		strings.Repeat("[0]", 40)+"...: nested too deeply at byte 101")
	assert.NoError(t, strictjson.Decode([]byte(`[[1],[1],{"a":[]}]`), strictjson.Limits{Depth: 3}, skip), "depth counts only values that are not closed")
}

func TestMembersKeepsTheOrder(t *testing.T) {
	var keys, raws []string
	err := strictjson.Decode([]byte(`{"b":{"x":[1, 2]},"a":"s","b":true,"c":null}`), strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Members(func(key string) error {
			keys = append(keys, key)
			if r.Null() {
				return nil
			}
			raw, err := r.Raw()
			raws = append(raws, string(raw))
			return err
		})
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"b", "a", "b", "c"}, keys, "each member, in the document's order")
	assert.Equal(t, []string{`{"x":[1, 2]}`, `"s"`, `true`}, raws)
}

func TestScalarsAreReadStrictly(t *testing.T) {
	one := func(in string, read func(*strictjson.Reader) error) error {
		return strictjson.Decode([]byte(in), strictjson.Limits{}, read)
	}
	var b []byte
	var ok bool
	bytes := func(r *strictjson.Reader) (err error) { b, err = r.Bytes(); return err }
	boolean := func(r *strictjson.Reader) (err error) { ok, err = r.Bool(); return err }
	require.NoError(t, one(`"aGk="`, bytes))
	assert.Equal(t, "hi", string(b))
	require.NoError(t, one(`null`, bytes))
	assert.Nil(t, b)
	assert.EqualError(t, one(`"***"`, bytes), "wrong type: want base64 at byte 5")
	require.NoError(t, one(` true`, boolean))
	assert.True(t, ok)
	require.NoError(t, one(`false`, boolean))
	assert.False(t, ok)
	assert.EqualError(t, one(`0`, boolean), "wrong type: want true or false, found a number at byte 0")
}

// FuzzEqual: encoding/json reads each document that a Reader accepts, with the same values,
// and refuses each document that a Reader refuses for its syntax.
func FuzzEqual(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,"x\u00e9\ud83d",true,false,null,{}]}`, `"\ud800\udc00"`, "\"\xff\"", ` [ ] `, `{"a":1,"a":2}`, `01`, `[1,]`, `{"a"}`, `nul`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got any
		err := strictjson.Decode(data, strictjson.Limits{}, func(r *strictjson.Reader) (err error) {
			got, err = anything(r)
			return err
		})
		var want any
		jsonErr := json.Unmarshal(data, &want)
		if err == nil {
			require.NoError(t, jsonErr)
			assert.Equal(t, want, got)
			return
		}
		var e *strictjson.Error
		require.ErrorAs(t, err, &e)
		if e.Rule == strictjson.Syntax || e.Rule == strictjson.Trailing {
			assert.Error(t, jsonErr)
		}
	})
}

// anything reads any value, and returns the types that encoding/json decodes into an any.
func anything(r *strictjson.Reader) (any, error) {
	raw, err := r.Raw()
	if err != nil {
		return nil, err
	}
	var v any
	err = strictjson.Decode(raw, strictjson.Limits{}, func(r *strictjson.Reader) (err error) {
		switch raw[0] {
		case '{':
			m := map[string]any{}
			v = m
			return r.Members(func(key string) (err error) {
				m[key], err = anything(r)
				return err
			})
		case '[':
			list := []any{}
			err = r.Array(func(int) error {
				e, err := anything(r)
				list = append(list, e)
				return err
			})
			v = list
		case '"':
			v, err = r.String()
		case 't', 'f':
			v, err = r.Bool()
		case 'n':
			return nil
		default:
			f, err := strconv.ParseFloat(string(raw), 64)
			if err != nil {
				return r.Fail("out of range")
			}
			v = f
			return r.Skip()
		}
		return err
	})
	return v, err
}

func BenchmarkSkip(b *testing.B) {
	data := []byte(`{"a":` + strings.Repeat(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":500,"x":[`, 50) + strings.Repeat("]}", 50) + `}`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := strictjson.Decode(data, strictjson.Limits{Depth: 1000}, func(*strictjson.Reader) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
