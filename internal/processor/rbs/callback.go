package rbs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Why a callback is not believed. None of them shows anything of it.
var (
	ErrUnsigned = errors.New("rbs: the callback has no checksum that could be checked")
	ErrForged   = errors.New("rbs: the callback's checksum is not that of its parameters")
	ErrNoOrder  = errors.New("rbs: the callback names no order")
)

const (
	maxCallbackFields = 64
	maxCallbackBytes  = 16 << 10
)

// VerifyCallback says which order a call of the acquirer's gateway to us is about, if the holder of key
// has signed it: params are the query of a GET or the form of a POST. checksum is the HMAC-SHA256, in
// hex, of "name;value;" for every other parameter but sign_alias, in the order of their names.
//
// What else it says is not returned, for nobody should believe it: it is a reason to ask
// (gateway.Inquire), and that is all.
func VerifyCallback(key Secret, params url.Values) (orderNumber, mdOrder string, err error) {
	signature, err := hex.DecodeString(one(params, "checksum"))
	if key == "" || err != nil || len(signature) != sha256.Size || len(params) > maxCallbackFields {
		return "", "", ErrUnsigned
	}
	mac := hmac.New(sha256.New, []byte(key))
	size := 0
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name == "checksum" || name == "sign_alias" {
			continue
		}
		if len(params[name]) != 1 {
			return "", "", ErrForged // signed is one value for a name; which one we would read is open
		}
		value := params[name][0]
		if size += len(name) + len(value); size > maxCallbackBytes {
			return "", "", ErrForged
		}
		mac.Write([]byte(name + ";" + value + ";"))
	}
	if !hmac.Equal(signature, mac.Sum(nil)) {
		return "", "", ErrForged
	}
	orderNumber, mdOrder = one(params, "orderNumber"), one(params, "mdOrder")
	// A semicolon would be the seam of several parameters that somebody has sewn into one: the
	// checksum is the same.
	if orderNumber == "" || mdOrder == "" || strings.Contains(orderNumber+mdOrder, ";") {
		return "", "", ErrNoOrder
	}
	return orderNumber, mdOrder, nil
}

// one is the value of a name that comes once.
func one(params url.Values, name string) string {
	if len(params[name]) != 1 {
		return ""
	}
	return params[name][0]
}
