// Package policy is the placement policy local-ssd: groups favour nodes with a disk of their own, or insist on them.
package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	cluster "local-ssd/bindings/muster_policy_cluster"
	lifecycle "local-ssd/bindings/muster_policy_lifecycle"
	placement "local-ssd/bindings/muster_policy_placement"
	types "local-ssd/bindings/muster_policy_types"
	wit "local-ssd/bindings/wit/types"
)

// settings is what can be set.
type settings struct {
	// Label is the node label that says that a node has a disk of its own, and Value what it says.
	Label string `json:"label"`
	Value string `json:"value"`
	// Required makes groups wait for room on such nodes; otherwise they only favour them.
	Required bool `json:"required"`
}

func parse(document string) (settings, error) {
	parsed := settings{Label: "cloud.google.com/gke-local-nvme-ssd", Value: "true"}
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&parsed)
	if err == nil && (parsed.Label == "" || parsed.Value == "") {
		err = fmt.Errorf("label and value must not be empty")
	}
	return parsed, err
}

// Describe says who the policy is.
func Describe() lifecycle.Descriptor {
	return lifecycle.Descriptor{Name: "local-ssd", Version: "0.1.0"}
}

// ValidateSettings reports what is wrong with the settings.
func ValidateSettings(document string) []types.SettingsError {
	if _, err := parse(document); err != nil {
		return []types.SettingsError{{Message: err.Error()}}
	}
	return nil
}

// Prepare makes the label a level: its values are the domains.
func Prepare(document string) lifecycle.Preparation {
	parsed, _ := parse(document)
	return lifecycle.Preparation{Levels: []string{parsed.Label}}
}

type result = wit.Result[[]placement.Answer, types.Failure]

// Place answers for every unit.
func Place(document string, view *cluster.Snapshot, request placement.Request) (answers result) {
	// The snapshot is lent for this call and must be given back.
	defer view.Drop()
	defer func() {
		if fault := recover(); fault != nil {
			answers = wit.Err[[]placement.Answer](types.MakeFailureInternal(fmt.Sprint(fault)))
		}
	}()
	parsed, err := parse(document)
	if err != nil {
		return wit.Err[[]placement.Answer](types.MakeFailureSettings([]types.SettingsError{{Message: err.Error()}}))
	}
	if request.Exclusive.IsSome() {
		// A set that wants domains for itself can't be left to the scheduler, which is what favouring nodes means.
		return wit.Err[[]placement.Answer](types.MakeFailureUnsupported("local-ssd does not serve sets with exclusive placement"))
	}
	disks, found := domain(view, parsed)
	// All pods that this call has put there: the snapshot does not change while it runs.
	var given []types.Demand
	all := make([]placement.Answer, 0, len(request.Units))
	for _, unit := range request.Units {
		together := slices.Concat(given, unit.Pods)
		fits := found && slices.Contains(view.BestDomains(0, together, false, 1024), disks.Domain)
		decision, code, message := decide(disks, found, fits, parsed)
		if fits {
			given = together
		}
		all = append(all, placement.Answer{Unit: unit.Id, Decision: decision, Reason: types.Reason{Code: code, Message: message}})
	}
	return wit.Ok[[]placement.Answer, types.Failure](all)
}

// domain is the one that all nodes with a disk are in.
func domain(view *cluster.Snapshot, parsed settings) (types.Location, bool) {
	for id := range view.DomainCount(0) {
		if view.DomainName(0, id) == parsed.Value {
			return types.Location{Level: 0, Domain: id}, true
		}
	}
	return types.Location{}, false
}

// decide says where a unit goes if nodes with a disk are found, and if it fits there.
func decide(disks types.Location, found, fits bool, parsed settings) (placement.Decision, string, string) {
	label := parsed.Label + "=" + parsed.Value
	switch {
	case parsed.Required && fits:
		return placement.MakeDecisionWithin([]types.Location{disks}), "LocalDisk", "nodes with " + label + " have room for the group"
	case parsed.Required:
		return placement.MakeDecisionHold(30_000), "NoLocalDisk", "no room for the group on nodes with " + label
	case found:
		return placement.MakeDecisionPreferred([]types.Location{disks}), "LocalDiskPreferred", "nodes with " + label + " are favoured"
	default:
		return placement.MakeDecisionUnconstrained(), "NoLocalDisk", "no node has " + label + "; any will do"
	}
}
