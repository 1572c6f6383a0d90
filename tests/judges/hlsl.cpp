// hlsl.exe FOLDER: hand every .hlsl file of the folder to Microsoft's compilers as wgpu does, d3dcompiler_47.dll (FXC, shader model 5.1; it knows no
// subgroups) and dxcompiler.dll (DXC, shader model 6.0, and the validator inside it). A file's name is emprune.ENTRY....hlsl.
#include <windows.h>
#include <d3dcompiler.h>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

// What dxcapi.h says, which MinGW does not have.
struct DxcBuffer { const void *pointer; SIZE_T size; UINT encoding; };
struct DxcBlob : IUnknown {
    virtual void *STDMETHODCALLTYPE pointer() = 0;
    virtual SIZE_T STDMETHODCALLTYPE size() = 0;
};
struct DxcResult : IUnknown {
    virtual HRESULT STDMETHODCALLTYPE status(HRESULT *) = 0;
    virtual HRESULT STDMETHODCALLTYPE result(DxcBlob **) = 0;
    virtual HRESULT STDMETHODCALLTYPE errors(DxcBlob **) = 0;
};
struct DxcCompiler : IUnknown {
    virtual HRESULT STDMETHODCALLTYPE compile(const DxcBuffer *, const wchar_t **, UINT32, IUnknown *, REFIID, void **) = 0;
};
const GUID DXC = {0x73e22d93, 0xe6ce, 0x47f3, {0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0}};
const GUID DXC_COMPILER = {0x228b4687, 0x5a6a, 0x4730, {0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54}};
const GUID DXC_RESULT = {0xcedb484a, 0xd4e9, 0x445a, {0xb9, 0x91, 0xca, 0x21, 0xca, 0x15, 0x7d, 0xc2}};

// An empty answer is a program of more than no bytes.
static std::string fxc(pD3DCompile compile, const std::string &source, const std::string &entry) {
    ID3DBlob *code = nullptr, *errors = nullptr;
    HRESULT result = compile(source.data(), source.size(), nullptr, nullptr, nullptr, entry.c_str(), "cs_5_1", D3DCOMPILE_ENABLE_STRICTNESS, 0, &code, &errors);
    if (SUCCEEDED(result) && code && code->GetBufferSize() > 0) return "";
    return errors ? std::string(static_cast<char *>(errors->GetBufferPointer())) : "failed without a word";
}

static std::string dxc(DxcCompiler *compiler, const std::string &source, const std::string &entry) {
    std::wstring wide(entry.begin(), entry.end());
    const wchar_t *arguments[] = {L"-E", wide.c_str(), L"-T", L"cs_6_0", L"-HV", L"2018", L"-no-warnings"};
    DxcBuffer buffer = {source.data(), source.size(), 65001}; // UTF-8
    DxcResult *result = nullptr;
    HRESULT status = compiler->compile(&buffer, arguments, 7, nullptr, DXC_RESULT, reinterpret_cast<void **>(&result));
    if (FAILED(status)) return "failed without a word";
    DxcBlob *code = nullptr, *errors = nullptr;
    if (SUCCEEDED(result->status(&status)) && SUCCEEDED(status) && SUCCEEDED(result->result(&code)) && code && code->size() > 0) return "";
    bool said = SUCCEEDED(result->errors(&errors)) && errors && errors->size() > 0;
    return said ? std::string(static_cast<char *>(errors->pointer()), errors->size()) : "failed without a word";
}

int main(int, char **argv) {
    auto create = reinterpret_cast<HRESULT(WINAPI *)(REFIID, REFIID, void **)>(GetProcAddress(LoadLibraryA("dxcompiler.dll"), "DxcCreateInstance"));
    auto compile = reinterpret_cast<pD3DCompile>(GetProcAddress(LoadLibraryA("d3dcompiler_47.dll"), "D3DCompile"));
    DxcCompiler *compiler = nullptr;
    if (!compile || !create || FAILED(create(DXC, DXC_COMPILER, reinterpret_cast<void **>(&compiler)))) {
        fprintf(stderr, "dxcompiler.dll or d3dcompiler_47.dll is missing\n");
        return 1;
    }
    const char *names[2] = {"FXC", "DXC"};
    int passed[2] = {0, 0}, refused = 0;
    ULONGLONG slowest[2] = {0, 0};
    std::string slow[2];
    auto judge = [&](int which, const std::string &name, auto verdict) {
        ULONGLONG start = GetTickCount64();
        std::string said = verdict();
        ULONGLONG took = GetTickCount64() - start;
        if (took >= slowest[which]) { slowest[which] = took; slow[which] = name; }
        if (said.empty()) { passed[which]++; return; }
        refused++;
        fprintf(stderr, "%s refuses %s:\n%s\n", names[which], name.c_str(), said.c_str());
    };
    std::string folder = argv[1];
    WIN32_FIND_DATAA found;
    HANDLE search = FindFirstFileA((folder + "/*.hlsl").c_str(), &found);
    for (BOOL more = search != INVALID_HANDLE_VALUE; more; more = FindNextFileA(search, &found)) {
        std::string name = found.cFileName;
        std::stringstream source;
        source << std::ifstream(folder + "/" + name, std::ios::binary).rdbuf();
        size_t dot = name.find('.') + 1;
        std::string entry = name.substr(dot, name.find('.', dot) - dot);
        // FXC takes up to half a minute for one: with checks, those of one dtype stand for the others.
        auto has = [&](const char *part) { return name.find(part) != std::string::npos; };
        if (!has(".subgroup") && (!has(".checked") || has(".f32"))) judge(0, name, [&] { return fxc(compile, source.str(), entry); });
        judge(1, name, [&] { return dxc(compiler, source.str(), entry); });
    }
    for (int which : {0, 1}) {
        printf("%s: %d passed; the slowest took %.1f s, %s\n", names[which], passed[which], slowest[which] / 1000.0, slow[which].c_str());
    }
    if (refused > 0) printf("%d refused\n", refused);
    return passed[0] > 0 && passed[1] > 0 && refused == 0 ? 0 : 1;
}
