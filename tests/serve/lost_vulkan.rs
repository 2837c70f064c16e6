//! A `libvulkan.so.1` that hands every call to the system's own, until the file that `LOST_WHERE` names is there: from then on each
//! submit ends as on a GPU that was reset or pulled out, with `VK_ERROR_DEVICE_LOST`. `LOST_VULKAN` names the system's library.
//!
//! No driver loses its device when asked to, and what a program does then must be seen once from outside. Whatever is looked up is kept
//! for all devices: the program opens one. A library of its own, which the test has `rustc` build.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

type Function = unsafe extern "C" fn();
/// `vkGetInstanceProcAddr` and `vkGetDeviceProcAddr`: an instance or a device, and a name.
type Lookup = unsafe extern "C" fn(*mut c_void, *const c_char) -> Option<Function>;
/// `vkQueueSubmit`: a queue, a count, so many descriptions of work, a fence.
type Submit = unsafe extern "C" fn(*mut c_void, u32, *const c_void, u64) -> i32;

const ERROR_DEVICE_LOST: i32 = -4;
const RTLD_NOW: c_int = 2;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

static LOOKUP_OF_DEVICE: OnceLock<Lookup> = OnceLock::new();
static SUBMIT: OnceLock<Submit> = OnceLock::new();

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The system's `vkGetInstanceProcAddr`.
fn lookup() -> Lookup {
    static LOOKUP: OnceLock<Lookup> = OnceLock::new();
    *LOOKUP.get_or_init(|| {
        let path = CString::new(variable("LOST_VULKAN")).unwrap();
        // SAFETY: both texts end with a zero; the library stays open, and its symbol is a function of this type by Vulkan's
        // description.
        unsafe {
            let library = dlopen(path.as_ptr(), RTLD_NOW);
            assert!(!library.is_null(), "{path:?} cannot be opened");
            let symbol = dlsym(library, c"vkGetInstanceProcAddr".as_ptr());
            assert!(!symbol.is_null(), "{path:?} is no Vulkan");
            std::mem::transmute::<*mut c_void, Lookup>(symbol)
        }
    })
}

/// # Safety
/// As Vulkan says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vkGetInstanceProcAddr(instance: *mut c_void, name: *const c_char) -> Option<Function> {
    // SAFETY: the caller gives what Vulkan asks for.
    let found = unsafe { lookup()(instance, name) };
    // SAFETY: as above, a text that ends with a zero; and what has this name is a function of this type.
    unsafe {
        match CStr::from_ptr(name) {
            known if known == c"vkGetInstanceProcAddr" => {
                Some(std::mem::transmute::<Lookup, Function>(vkGetInstanceProcAddr))
            }
            known if known == c"vkGetDeviceProcAddr" => found.map(|found| {
                LOOKUP_OF_DEVICE.get_or_init(|| std::mem::transmute::<Function, Lookup>(found));
                std::mem::transmute::<Lookup, Function>(lookup_of_device)
            }),
            _ => found,
        }
    }
}

unsafe extern "C" fn lookup_of_device(device: *mut c_void, name: *const c_char) -> Option<Function> {
    let lookup = LOOKUP_OF_DEVICE.get().expect("it was asked for before it is called");
    // SAFETY: as in `vkGetInstanceProcAddr`.
    unsafe {
        let found = lookup(device, name)?;
        if CStr::from_ptr(name) != c"vkQueueSubmit" {
            return Some(found);
        }
        SUBMIT.get_or_init(|| std::mem::transmute::<Function, Submit>(found));
        Some(std::mem::transmute::<Submit, Function>(submit))
    }
}

unsafe extern "C" fn submit(queue: *mut c_void, count: u32, work: *const c_void, fence: u64) -> i32 {
    if Path::new(&variable("LOST_WHERE")).exists() {
        return ERROR_DEVICE_LOST;
    }
    let submit = SUBMIT.get().expect("it was asked for before it is called");
    // SAFETY: the caller gives what Vulkan asks for.
    unsafe { submit(queue, count, work, fence) }
}
