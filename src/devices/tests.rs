use super::*;

/// GPUs that are not there.
struct Fake(Vec<Described>);

impl Source for Fake {
    fn gpus(&self) -> Result<Vec<Described>, String> {
        Ok(self.0.clone())
    }

    fn usage(&self, index: u32) -> Usage {
        Usage { memory_used: Some(u64::from(index) * 100), ..Usage::default() }
    }
}

fn described(names: &[&str]) -> Vec<Described> {
    let gpu = |name: &&str| Described { name: format!("Fake {name}"), uuid: format!("GPU-{name}"), memory_bytes: None };
    names.iter().map(gpu).collect()
}

fn shown(told: Option<&str>) -> Vec<String> {
    visible(described(&["aa", "ab", "b0"]), told).iter().map(ToString::to_string).collect()
}

#[test]
fn all_gpus_are_there_unless_cuda_is_told_to_show_some() {
    assert_eq!(shown(None), ["cuda:0 (Fake aa)", "cuda:1 (Fake ab)", "cuda:2 (Fake b0)"]);
    assert_eq!(shown(Some("2, 0")), ["cuda:0 (Fake b0)", "cuda:1 (Fake aa)"]);
    assert_eq!(shown(Some("GPU-b,GPU-aa")), ["cuda:0 (Fake b0)", "cuda:1 (Fake aa)"]);
    assert_eq!(shown(Some("MIG-1234,1")), ["cuda:0 (part of a GPU)", "cuda:1 (Fake ab)"]);
}

#[test]
fn what_stands_behind_one_that_is_not_there_is_not_there() {
    for told in ["1,3,0", "1,-1,0", "1,x,0", "1,1,0", "1,GPU-a,0", "1,GPU-c,0", "1,,0"] {
        assert_eq!(shown(Some(told)), ["cuda:0 (Fake ab)"], "{told}");
    }
    for told in ["", "-1", "NoDevFiles"] {
        assert!(shown(Some(told)).is_empty(), "{told}");
    }
}

#[test]
fn a_gpu_is_read_by_its_own_number_and_none_is_told_with_the_reason() {
    let devices = Devices::of(Fake(described(&["aa", "ab"])), Some("1"));
    assert_eq!(devices.gpu(0).unwrap().described.uuid, "GPU-ab");
    assert_eq!(devices.gpu(1), None);
    assert_eq!((devices.usage(0).memory_used, devices.usage(1)), (Some(100), Usage::default()));
    let hidden = Devices::of(Fake(described(&["aa", "ab"])), Some(""));
    assert_eq!(hidden.gpus(), Err("CUDA_VISIBLE_DEVICES='' leaves none of the 2 GPUs"));
    let none = Devices::of(Fake(Vec::new()), None);
    assert_eq!(none.gpus(), Err("the NVIDIA driver tells of no GPU"));
    assert_eq!(none.usage(0), Usage::default());
}
