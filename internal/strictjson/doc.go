// Package strictjson reads JSON documents from strangers so that no other
// parser can read them differently: where encoding/json takes the last of two
// equal keys, LAYERS for layers, or the first of two documents in one body,
// this package refuses.
//
// The caller says what it wants to read, member by member, and pays for
// nothing else; what it accepts, encoding/json would have decoded to the same
// values. Objects with known members are read by [Reader.Object], objects
// whose keys are data by [Reader.Members], which keeps their order.
//
//	var token struct{ Token string; ExpiresIn int64 }
//	err := strictjson.Decode(body, strictjson.Limits{}, func(r *strictjson.Reader) error {
//		return r.Object([]string{"token", "expires_in"}, func(key string) (err error) {
//			switch key {
//			case "token":
//				token.Token, err = r.String()
//			case "expires_in":
//				token.ExpiresIn, err = r.Int64()
//			}
//			return err
//		})
//	})
//
// No error quotes a value, nor a key of an object whose keys are data, so that
// errors about files with secrets can be shown.
package strictjson
