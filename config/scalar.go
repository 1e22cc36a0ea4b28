package config

import (
	"reflect"
	"strconv"
	"strings"
	"time"
)

var durationType = reflect.TypeFor[time.Duration]()

var booleans = map[string]bool{
	"true": true, "1": true, "yes": true, "on": true,
	"false": false, "0": false, "no": false, "off": false,
}

func setBool(dst reflect.Value, n *node) error {
	if b, ok := n.raw.(bool); ok {
		dst.SetBool(b)
		return nil
	}
	text, _ := n.raw.(string)
	b, ok := booleans[strings.ToLower(text)]
	if !ok || !n.loose {
		return errKind
	}
	n.raw = b
	dst.SetBool(b)
	return nil
}

func setInt(dst reflect.Value, f field, n *node) (limit string, err error) {
	i, ok := n.raw.(int64)
	if text, isText := n.raw.(string); isText && n.loose {
		parsed, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return "", errKind
		}
		i, ok = parsed, true
	}
	if !ok {
		return "", errKind
	}
	if low, err := strconv.ParseInt(f.tag.Get("min"), 10, 64); err == nil && i < low {
		return "too small", nil
	}
	if high, err := strconv.ParseInt(f.tag.Get("max"), 10, 64); err == nil && i > high || overflows(dst, i) {
		return "too large", nil
	}
	if dst.CanUint() {
		dst.SetUint(uint64(i)) //nolint:gosec // overflows has seen that it is not negative
		return "", nil
	}
	dst.SetInt(i)
	return "", nil
}

func overflows(dst reflect.Value, i int64) bool {
	if dst.CanUint() {
		return i < 0 || dst.OverflowUint(uint64(i))
	}
	return dst.OverflowInt(i)
}

func setFloat(dst reflect.Value, f field, n *node) (limit string, err error) {
	var x float64
	switch v := n.raw.(type) {
	case float64:
		x = v
	case int64:
		x = float64(v)
	case string:
		parsed, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil || !n.loose {
			return "", errKind
		}
		x = parsed
	default:
		return "", errKind
	}
	low, lowErr := strconv.ParseFloat(f.tag.Get("min"), 64)
	high, highErr := strconv.ParseFloat(f.tag.Get("max"), 64)
	switch {
	case x-x != 0: // NaN and the infinities
		return "", errKind
	case lowErr == nil && x < low:
		return "too small", nil
	case highErr == nil && x > high:
		return "too large", nil
	}
	dst.SetFloat(x)
	return "", nil
}

func setDuration(dst reflect.Value, f field, n *node) (limit string, err error) {
	text, _ := n.raw.(string)
	length, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return "", errKind
	}
	if low, err := time.ParseDuration(f.tag.Get("min")); err == nil && length < low {
		return "too short", nil
	}
	if high, err := time.ParseDuration(f.tag.Get("max")); err == nil && length > high {
		return "too long", nil
	}
	dst.SetInt(int64(length))
	return "", nil
}
